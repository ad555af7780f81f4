"""Files that appear whole, and what is read from outside: tensors, and descriptions in JSON."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

MOST_JSON = 1 << 20  # bytes; descriptions are far smaller


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; OSError if it cannot be read, ValueError if it holds something else."""
    if (size := path.stat().st_size) > MOST_JSON:
        raise ValueError(f"{size:,} bytes; accepted: at most {MOST_JSON:,}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(values, dict):
        raise ValueError("no JSON object")
    return values


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file; ValueError names the file that is missing, damaged, too large or no object."""
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file; ValueError if it is missing or damaged."""
    return read_described(path)[0]


def read_described(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors of a safetensors file, and its metadata; ValueError as `read_tensors`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: {error}") from None
    except (AttributeError, TypeError) as error:  # of a number type that NumPy lacks
        raise ValueError(f"{path}: {error}; accepted: numbers of 16 or 32 bits") from None


def json_digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of an object as JSON, in whatever order its keys stand."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A path aside to write to, renamed when the block ends without an error: the file is there whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_whole(path: Path, contents: bytes) -> None:
    """Writes a file aside and renames it."""
    with appearing(path) as aside:
        aside.write_bytes(contents)


def cache_folder() -> Path:
    """Where tokens and compiled programs are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adakron-jax"
