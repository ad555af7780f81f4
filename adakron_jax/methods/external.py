"""Methods of other packages, found by import path or entry point.

Importing a module runs its code. A module is imported if the user names the method, or if an adapter or a run on this
machine does; for an adapter from the hub, only if the user trusts the module by name.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

GROUP = "adakron_jax.methods"  # the group of entry points
PULLED = ".from-hub"  # the file that marks a folder that `pull` wrote
_trusted: set[str] = set()


def trust(*modules: str) -> None:
    """Lets adapters from the hub name methods of these modules or packages, for the rest of this process."""
    for module in modules:
        if not all(part.isidentifier() for part in module.split(".")):
            raise ValueError(f"trust is {module!r}; accepted: a module's name, such as mymethods")
    _trusted.update(modules)


def import_path(method: type) -> str:
    """Returns `package.module:Class`; empty for a method of this library."""
    module = method.__module__
    return "" if module.partition(".")[0] == __name__.partition(".")[0] else f"{module}:{method.__qualname__}"


def entry_points() -> dict[str, str]:
    """Returns the methods that installed packages offer, name -> import path, without importing them."""
    return {point.name: point.value for point in importlib.metadata.entry_points(group=GROUP)}


def load(path: str, where: Path | None = None) -> Any:
    """Returns the object at an import path.

    Args:
      where: the folder of the adapter or run that names it; None if the user does.

    Raises:
      ValueError: the user has to trust the module first, it is not installed, or importing it fails.
    """
    module, _, name = path.partition(":")
    if not name or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise ValueError(f"method is {path!r:.100}; accepted: a method's name, or package.module:Class")
    if module not in sys.modules:
        _check(module, path, where)
        _import(module, path)
    value = sys.modules[module]
    for part in name.split("."):
        value = getattr(value, part, None)
    if value is None:
        raise ValueError(f"method is {path!r}, and the module {module} has no {name}")
    return value


def _check(module: str, path: str, where: Path | None) -> None:
    """Raises ValueError unless a module may be imported for a folder: it is trusted, or the folder is not from the hub
    and does not contain the module's file."""
    package = module.partition(".")[0]
    if where is None or any(module == name or module.startswith(f"{name}.") for name in _trusted):
        return
    if is_downloaded(where):
        raise ValueError(
            f"method {path} is code of the module {module}, which an adapter from the hub names; accepted: --trust "
            f"{module} (in Python trust={module!r}), if it may be imported"
        )
    _look_here()
    spec = importlib.util.find_spec(package)
    if spec and spec.origin and Path(spec.origin).resolve().is_relative_to(where.resolve()):
        raise ValueError(f"method {path} lies in the adapter's own folder; accepted: --trust {module}, to import it")


def is_downloaded(folder: Path) -> bool:
    """Returns whether a folder is from the hub: in its client's cache, downloaded by it, or written by `pull`."""
    parts = {*folder.absolute().parts, *folder.resolve().parts}
    cached = "snapshots" in parts and any(part.startswith("models--") for part in parts)
    marks = (Path(PULLED), Path(".cache/huggingface/download"))
    return cached or any((place / mark).exists() for place in (folder, folder.parent) for mark in marks)


def _look_here() -> None:
    """Lets modules of the working directory be found, after all others, so that they cannot shadow other modules."""
    if (directory := os.getcwd()) not in sys.path and "" not in sys.path:
        sys.path.append(directory)


def _import(module: str, path: str) -> None:
    _look_here()
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ValueError(f"method {path}: importing {module} needs {error.name}, which is not installed") from None
        raise ValueError(
            f"method {path}: there is no module {error.name} here; accepted: install the package that has it, or work "
            f"in the folder of {error.name.partition('.')[0]}.py"
        ) from None
    except Exception as error:  # whatever the other package's code raises
        raise ValueError(f"method {path}: importing {module} raised {type(error).__name__}: {error}") from None
