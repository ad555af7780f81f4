"""Locating models: a folder, `pkg:NAME` in an installed package, or a hub id."""

import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

from adakron_jax.architectures.folder import PICKLED, POOLING, TOKENIZER_FILES, WEIGHTS, shards
from adakron_jax.hub.errors import FILL_THE_CACHE, complaints


def locate(model: str) -> Path:
    """Returns a model's folder, from a folder, `pkg:NAME` in an installed package, or a hub id, downloaded if need be.

    Raises:
      ValueError: there is no such model, or the hub cannot be reached; the message says what to do.
    """
    return _locate(model, whole=True)


def absolute(model: str) -> str:
    """Returns a model's name that holds in every working directory: a folder's path is made absolute."""
    return os.path.abspath(model) if model and not model.startswith("pkg:") and os.path.isdir(model) else model


def locate_config(model: str) -> Path:
    """Does the same as `locate`, but downloads only the `config.json` of a model on the hub."""
    return _locate(model, whole=False)


def _locate(model: str, whole: bool) -> Path:
    if model.startswith("pkg:"):
        return _in_package(model.removeprefix("pkg:"))
    if model and os.path.isdir(model):
        return Path(model)
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ValueError(f"model {model!r}: no such folder")
    return _from_hub(model, whole)


def _in_package(name: str) -> Path:
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"model 'pkg:{name}': no installed package of this name")
    for root in map(Path, spec.submodule_search_locations):
        for config in sorted((*root.glob("config.json"), *root.glob("*/config.json"))):
            return config.parent
    raise ValueError(f"model 'pkg:{name}': the package holds no model folder (one with a config.json)")


def _from_hub(model: str, whole: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    cached_only = not hub_is_reachable()

    def fetch(file: str) -> Path | None:
        try:
            return Path(hf_hub_download(model, file, local_files_only=cached_only))
        except LocalEntryNotFoundError:
            # Neither in the cache nor within reach. For a model in the cache, that is a file which the model never had.
            if file == "config.json" or not cached_only:
                raise
            return None
        except EntryNotFoundError:
            return None

    advice = f"give --model a folder or pkg:NAME, or {FILL_THE_CACHE}"
    with complaints(f"model {model!r}", "model, or folder,", "a hub id, a folder, or pkg:NAME", advice):
        config = fetch("config.json")
        if config is None:
            raise ValueError(f"model {model!r}: the hub's repository has no config.json")
        if whole:
            _fetch_rest(fetch, config.parent)
        if whole and cached_only and not any((config.parent / file).exists() for file in WEIGHTS + PICKLED):
            raise LocalEntryNotFoundError("weights")
    return config.parent


def _fetch_rest(fetch: Callable[[str], Path | None], folder: Path) -> None:
    """Fetches the weights, in the first form that exists, and the tokenizer."""
    if not any(map(fetch, WEIGHTS[:1])) and (index := fetch(WEIGHTS[1])):
        for shard in shards(index):
            fetch(shard)
    elif not (folder / WEIGHTS[0]).exists() and not fetch(WEIGHTS[2]):
        fetch(PICKLED[0])  # only so that `read` finds it and says how to convert it
    for file in (*TOKENIZER_FILES, POOLING):
        fetch(file)


def hub_is_reachable() -> bool:
    """Returns whether the hub can be reached; False if HF_HUB_OFFLINE is set.

    Sends one quick request, where the hub's client would retry for half a minute.
    """
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    session = get_session()
    http = importlib.import_module(type(session).__module__.partition(".")[0])  # the client has changed it before
    try:
        session.head(constants.ENDPOINT, timeout=10)
    except (http.HTTPError, http.InvalidURL):
        return False
    return True
