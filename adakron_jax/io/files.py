"""Files that are written whole, and untrusted input: tensors, and descriptions in JSON."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MOST_JSON = 1 << 24  # bytes; 24,000 classes with long names take a tenth of it
_DESCRIPTOR = re.compile(r"/dev/(?:stdin|stdout|stderr)|/(?:dev|proc/self)/fd/\d+")


def read_object(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file; OSError if it cannot be read, ValueError if it holds something else."""
    if (size := path.stat().st_size) > MOST_JSON:
        raise ValueError(f"{size:,} bytes; accepted: at most {MOST_JSON:,}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return values


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file; ValueError names a file that is missing, damaged, too large or no object."""
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a safetensors file; ValueError if it is missing or damaged."""
    return read_described(path)[0]


def read_described(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads the tensors of a safetensors file, and its metadata; raises the ValueError of `read_tensors`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: {error}") from None
    except (AttributeError, TypeError) as error:  # a number type that NumPy lacks
        raise ValueError(f"{path}: {error}; accepted: numbers of 16 or 32 bits") from None


def conversion(pickled: str, file: str) -> str:
    """Returns the command that converts a pickled file to safetensors; this library never loads the pickle."""
    return (
        'python -c "import torch, safetensors.torch as s; s.save_file({k: v.clone().contiguous() for k, v in '
        f"torch.load('{pickled}', weights_only=True).items()}}, '{file}')\""
    )


def json_digest(values: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of an object as JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def check_writable(path: Path) -> None:
    """Raises ValueError unless a file can be written at a path: in a folder that exists, and not a folder itself."""
    try:
        writable = not path.is_dir() and (path.exists() or path.resolve().parent.is_dir())
    except (OSError, RuntimeError) as error:  # too long a name; a circle of links
        raise ValueError(f"{str(path)!r:.200} cannot be written ({error!s:.60}); accepted: a file's name") from None
    if not writable:
        raise ValueError(f"{str(path)!r} cannot be written; accepted: a file in a folder that exists")


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Provides a temporary path, renamed when the block ends without an error, so the file appears whole or not at all.

    A link stays a link, and the file that it points to is replaced. A pipe or a device is written into at the end.
    """
    if _DESCRIPTOR.fullmatch(os.path.abspath(path)) or (path.exists() and not path.is_file()):
        with tempfile.TemporaryDirectory() as folder:
            yield (aside := Path(folder) / "contents")
            with aside.open("rb") as contents, _opened(path) as file:
                shutil.copyfileobj(contents, file)
        return
    target = path.resolve()
    aside = target.with_name(f".{target.name[:50]}.{os.getpid()}")
    try:
        yield aside
        os.replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def _opened(path: Path) -> BinaryIO:
    """Opens a pipe or a device for writing; a file descriptor by its number, at its current position."""
    if not _DESCRIPTOR.fullmatch(name := os.path.abspath(path)):
        return path.open("wb")
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    numbers = {"stdin": 0, "stdout": 1, "stderr": 2}
    last = name.rpartition("/")[2]
    return os.fdopen(os.dup(numbers[last] if last in numbers else int(last)), "wb")


def write_whole(path: Path, contents: bytes) -> None:
    """Writes a file at a temporary path and renames it."""
    with appearing(path) as aside:
        aside.write_bytes(contents)


def cache_folder() -> Path | None:
    """Returns the folder for tokens and executables kept between runs; None if this user cannot write one."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(home) / "adakron-jax"
    if not folder.is_absolute():  # `~` of a user without a home, or a relative path, which the standard says to ignore
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None
