"""Adapters on the hub: fetched as untrusted files, pushed with a model card.

Only the two files of a portable adapter are ever requested from a repository, under names that are fixed here, and the
sizes that the hub states are checked before the download. Neither file holds code. When the adapter is put on an
encoder, it is checked that it was trained on that encoder.
"""

import re
from pathlib import Path
from typing import Any

from adakron_jax import adapter
from adakron_jax.adapter import CARD, FILES, TENSORS
from adakron_jax.hub.cards import model_card
from adakron_jax.hub.errors import complaints
from adakron_jax.hub.models import hub_is_reachable
from adakron_jax.io.files import MOST_JSON, write_whole
from adakron_jax.methods import external
from adakron_jax.params import count

_HEADER = 1 << 20  # most bytes of the tensors' names
_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_USE = """```
pip install {library}
python -m adakron_jax predict hub:{name} --text "..."
```"""


def locate_adapter(run: str) -> Path:
    """Returns an adapter's folder: the folder itself, a run's `adapter/`, or `hub:OWNER/NAME[@REV]`.

    Raises:
      ValueError: there is no such folder, no adapter in it, or the hub cannot provide it.
    """
    if run.startswith("hub:"):
        return fetch_adapter(*split_revision(run.removeprefix("hub:")))
    folder = Path(run)
    for path in (folder, folder / "adapter"):
        if (path / CARD).is_file():
            return path
    raise ValueError(f"{run}: no adapter there; accepted: the folder of a finished run, or of an adapter")


def split_revision(name: str) -> tuple[str, str]:
    """Splits OWNER/NAME[@REV] into (OWNER/NAME, REV); the revision is `main` if there is none."""
    repository, _, revision = name.partition("@")
    return repository, revision or "main"


def fetch_adapter(repository: str, revision: str) -> Path:
    """Returns the folder of an adapter in the hub's cache, downloaded if need be.

    Args:
      repository: OWNER/NAME.
      revision: a branch, a tag or a commit; a commit never changes.

    Raises:
      ValueError: there is no such repository or revision, it has no adapter, or one of another size than described; or
        the hub cannot be reached and the cache does not have it.
    """
    from huggingface_hub import HfApi, hf_hub_download

    where = f"adapter 'hub:{repository}@{revision}'"
    _check_name(repository)
    with complaints(where):
        if not hub_is_reachable():
            cached = {"revision": revision, "local_files_only": True}
            return [Path(hf_hub_download(repository, name, **cached)).parent for name in FILES][0]
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
        sizes = {file.rfilename: file.size for file in info.siblings or ()}
        _check_size(where, CARD, sizes, 2, MOST_JSON)
        path = Path(hf_hub_download(repository, CARD, revision=info.sha))
        least = 4 * count(adapter.portable_shapes(adapter.read_card(path)))
        _check_size(where, TENSORS, sizes, least, least + _HEADER)
        hf_hub_download(repository, TENSORS, revision=info.sha)
    return path.parent


def _check_name(repository: str) -> None:
    if not _NAME.fullmatch(repository) or ".." in repository:
        raise ValueError(f"the hub's repository is {repository!r}; accepted: OWNER/NAME")


def _check_size(where: str, name: str, sizes: dict[str, Any], least: int, most: int) -> None:
    size = sizes.get(name)
    if name not in sizes:
        raise ValueError(f"{where}: no {name} there; accepted: a repository with {' and '.join(FILES)}")
    if not isinstance(size, int) or not least <= size <= most:
        raise ValueError(f"{where}: {name} has {size} bytes; accepted: {least} to {most}, as it is described")


def push(run: str, repository: str, private: bool = False) -> str:
    """Uploads an adapter with its model card in one commit, and returns the address of the repository.

    An interrupted upload changes nothing there; the same call again continues with what is missing.

    Args:
      run: as in `locate_adapter`.
      repository: OWNER/NAME, created if there is none.
      private: whether a new one is private.

    Raises:
      ValueError: there is no such adapter, no token or no access, or the hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    _check_name(repository)
    folder = locate_adapter(run)
    _, card = adapter.load(folder)
    trained_in = Path(run) if folder != Path(run) else None
    text = model_card(card, repository, _USE.format(library="adakron-jax", name=repository), trained_in)
    files = {name: (folder / name).read_bytes() for name in FILES} | {"README.md": text.encode()}
    with complaints(f"push to {repository!r}"):
        if not hub_is_reachable():
            raise OSError("the hub cannot be reached")
        if get_token() is None:
            raise ValueError("no token to write to the hub; accepted: HF_TOKEN, or that of `hf auth login`")
        api = HfApi()
        url = api.create_repo(repository, private=private, exist_ok=True)
        operations = [CommitOperationAdd(name, contents) for name, contents in files.items()]
        api.create_commit(repository, operations, commit_message=f"Upload {card.method.name} adapter")
    return str(url)


def pull(repository: str, revision: str, out: Path) -> None:
    """Copies an adapter from the hub into a local folder; raises the ValueError of `fetch_adapter`."""
    folder = fetch_adapter(repository, revision)
    out.mkdir(parents=True, exist_ok=True)
    if external.import_path(type(adapter.read_card(folder / CARD).method)):
        write_whole(out / external.PULLED, f"{repository}@{revision}\n".encode())  # before the files that it marks
    for name in FILES:
        write_whole(out / name, (folder / name).read_bytes())
