"""The state that endpoints share: the engine, the limits, and whether the server is ready."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub.constants import HF_HUB_CACHE
from starlette.exceptions import HTTPException

from adakron_jax.bank.bank import Text
from adakron_jax.hub.adapters import locate_adapter
from adakron_jax.serving.access import without_paths
from adakron_jax.serving.engine import Busy, Engine
from adakron_jax.serving.folders import Entry
from adakron_jax.serving.limits import Limits
from adakron_jax.serving.messages import Described, Parameters, Reply
from adakron_jax.serving.prometheus import Metrics
from adakron_jax.serving.responses import check_parameters, reply_of


@dataclasses.dataclass
class Server:
    """One server.

    Attributes:
      hub: whether adapters may be fetched from the hub.
      ready: set once the folders have been scanned and everything is compiled.
      watching: the task that scans the folders repeatedly.
    """

    engine: Engine
    limits: Limits
    hub: bool
    metrics: Metrics
    ready: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    watching: asyncio.Task[None] | None = None

    async def predict(self, name: str, texts: Sequence[Text], parameters: Parameters) -> list[Reply]:
        """Returns the labels of every text, or its entities, from the adapter of this name."""
        self.check_ready()
        self.limits.check(texts)
        problem = self.engine.folders[name].card.problem
        check_parameters(problem, parameters)
        if problem.reads == "token" and (pairs := [i for i, text in enumerate(texts) if not isinstance(text, str)]):
            raise HTTPException(422, f"text {pairs[0]} is a pair; accepted for a {problem.name} adapter: single texts")
        if not parameters.truncate and problem.reads == "example":  # all entities of long texts are found
            await asyncio.to_thread(self._check_tokens, name, texts)
        with_logits = parameters.function_to_apply is not None
        predictions = await self.engine.predict(name, texts, with_logits=with_logits)
        return [reply_of(problem, prediction, parameters) for problem, prediction in predictions]

    def finds_entities(self, name: str) -> bool:
        """Returns whether an adapter that is served finds entities; 404 if there is no such adapter."""
        return self.engine.folders[name].card.problem.reads == "token"

    def check_ready(self) -> None:
        """Raises Busy until everything is compiled."""
        if not self.ready.is_set():
            raise Busy("the server is compiling; see GET /health")

    def _check_tokens(self, name: str, texts: Sequence[Text]) -> None:
        """Raises a fault of 413 if a text would be cut."""
        most = self.engine.folders[name].card.max_length
        for number, text in enumerate(texts):
            columns = [[part] for part in ((text,) if isinstance(text, str) else text)]
            if self.engine.bank.tokenizer.encode(columns, most).cut:
                raise HTTPException(413, f"text {number} has more than {most} tokens; accepted: that many, or truncate")

    def described(self, name: str, entry: Entry) -> Described:
        card, refusal = entry.card, self.engine.folders.refused.get(name)
        return Described(
            name=name,
            method=card.method.name,
            problem=card.problem.name,
            labels=list(card.problem.labels),
            task=card.task,
            max_length=card.max_length,
            resident=name in self.engine.used,
            error=refusal and f"is served as it was before: {refusal.reason}",
        )

    def add(self, name: str, source: str) -> Described:
        """Serves the adapter that a client names; a fault of 422 if that is not allowed, or it cannot be served."""
        folders = self.engine.folders
        try:
            return self.described(name, folders.add(name, _locate(source, folders.roots, self.hub)))
        except ValueError as error:
            known = (*(root.resolve() for root in folders.roots), HF_HUB_CACHE, Path.home())
            raise HTTPException(422, without_paths(str(error), {str(path): "" for path in known})) from None


def _locate(source: str, roots: Sequence[Path], hub: bool) -> Path:
    """Returns the folder of an adapter that a client may name: on the hub, or below the folders served."""
    if source.startswith("hub:"):
        if not hub:
            raise ValueError("source is on the hub; accepted: a folder, unless the server runs with --hub")
        return locate_adapter(source)
    named = source.replace("\0", "")
    below = [path for root in roots for given in (root / named, Path(named)) if (path := _within(given, root))]
    if not below:
        raise ValueError(f"source is {source!r:.200}; accepted: a folder below those that are served")
    for folder in below:
        with contextlib.suppress(ValueError):
            return locate_adapter(str(folder))
    raise ValueError(f"source is {source!r:.200}; no adapter there; accepted: the folder of an adapter, or of a run")


def _within(path: Path, root: Path) -> Path | None:
    """Returns the resolved path if it is below the folder, else None."""
    resolved = path.resolve()
    return resolved if resolved.is_relative_to(root.resolve()) else None
