"""Files that appear whole, and tensors read from outside."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file; ValueError if it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: {error}") from None


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
