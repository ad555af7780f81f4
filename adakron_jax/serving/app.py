"""The server's endpoints."""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from adakron_jax.bank.bank import Text
from adakron_jax.data.labels import SURROGATE
from adakron_jax.hub.adapters import locate_adapter
from adakron_jax.problems import Prediction, Problem
from adakron_jax.serving.engine import Busy, Engine
from adakron_jax.serving.limits import Bearer, BodyLimit
from adakron_jax.serving.metrics import CONTENT_TYPE, Measured, Metrics
from adakron_jax.serving.shelf import Entry, Shelf, UnknownAdapter

log = logging.getLogger("adakron.serving")
_OPEN = {"/health"}  # what needs no token

Texts = str | list[str] | list[tuple[str, str]]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a request may ask for.

    Attributes:
      body: bytes.
      texts: of one request.
      characters: of one text; what is longer than the adapter reads is cut, what is longer than this is refused.
    """

    body: int = 2**20
    texts: int = 256
    characters: int = 20_000


class Parameters(BaseModel):
    """How many labels to give, the most probable first."""

    model_config = ConfigDict(extra="forbid")
    top_k: Annotated[int, Field(ge=1)] | None = None


class ToAdapter(BaseModel):
    """Texts for the adapter that the path names: one, several, or pairs."""

    inputs: Texts
    parameters: Parameters = Parameters()


class ToAny(ToAdapter):
    """Texts, and the name of an adapter."""

    adapter: str


class Source(BaseModel):
    """Where an adapter is: a folder below those served, or `hub:OWNER/NAME`."""

    model_config = ConfigDict(extra="forbid")
    source: str


class Label(BaseModel):
    """A label and its probability; of a regression the number, whose label is `LABEL_0`."""

    label: str
    score: float


class Described(BaseModel):
    """An adapter that is served."""

    name: str
    method: str
    problem: str
    labels: list[str]
    task: str
    max_length: int
    resident: bool


class Fault(BaseModel):
    """What is wrong, in one line."""

    error: str


_FAULTS: dict[int | str, dict[str, Any]] = {code: {"model": Fault} for code in (400, 401, 404, 413, 422, 503)}


def make_app(
    engine: Engine,
    shelf: Shelf,
    *,
    limits: Limits = Limits(),  # noqa: B008
    token: str = "",
    hub: bool = False,
    seconds_between_scans: float = 2.0,
) -> FastAPI:
    """The application.

    Args:
      token: that requests must bear; empty for none.
      hub: whether adapters may be fetched from the hub.
      seconds_between_scans: of the adapters' folders.
    """
    metrics, ready = Metrics(engine, shelf), asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        app.state.watching = asyncio.create_task(_watch(shelf, ready, seconds_between_scans))
        yield
        app.state.watching.cancel()
        await asyncio.to_thread(engine.stop)

    app = FastAPI(title="AdaKron-JAX", summary="Many adapters on one encoder", lifespan=lifespan, responses=_FAULTS)
    app.add_middleware(BodyLimit, most=limits.body)
    if token:
        app.add_middleware(Bearer, token=token, unguarded=_OPEN)
    app.add_middleware(Measured, metrics=metrics)  # the last is the outermost
    _add_faults(app)

    async def answer(name: str, body: ToAdapter) -> list[list[Label]]:
        if not ready.is_set():
            raise Busy("the server is compiling; see GET /health")
        texts = _checked(body.inputs, limits)
        predictions = await engine.predict(name, texts)
        return [_labels(entry.card.problem, prediction, body.parameters.top_k) for entry, prediction in predictions]

    @app.post("/predict")
    async def predict(body: ToAny) -> list[list[Label]] | list[Label]:
        """Labels of one text, the most probable first, or a list of such lists for several."""
        labels = await answer(body.adapter, body)
        return labels[0] if isinstance(body.inputs, str) else labels

    @app.post("/adapters/{name}")
    async def predict_as_the_hub(name: str, body: ToAdapter) -> list[list[Label]]:
        """As the hub's inference API answers: a list for every text, of one text too."""
        return await answer(name, body)

    @app.get("/adapters")
    async def adapters() -> list[Described]:
        """What is served."""
        return [_described(name, entry, name in engine.used) for name, entry in sorted(shelf.entries.items())]

    @app.put("/adapters/{name}")
    async def add(name: Name, body: Source) -> Described:
        """Serves an adapter under a name, in place of any that has it."""
        if not ready.is_set():
            raise Busy("the server is compiling; see GET /health")
        folder = await asyncio.to_thread(_locate, body.source, shelf.roots, hub)
        return _described(name, await asyncio.to_thread(shelf.add, name, folder), False)

    @app.delete("/adapters/{name}", status_code=204)
    async def remove(name: str) -> None:
        """Serves an adapter no more, until its files change."""
        shelf.remove(name)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether everything is compiled, and requests will be answered at once."""
        if not ready.is_set() or app.state.watching.done():
            raise Busy("the server is compiling" if not ready.is_set() else "the folders are no longer watched")
        return {"status": "ready"}

    @app.get("/metrics", response_class=Response)
    async def show_metrics() -> Response:
        """For Prometheus."""
        return Response(metrics.page(), media_type=CONTENT_TYPE)

    return app


async def _watch(shelf: Shelf, ready: asyncio.Event, seconds: float) -> None:
    """Looks for adapters again and again; after the first time the server is ready."""
    while True:
        begun, changed = time.perf_counter(), []
        try:
            changed = await asyncio.to_thread(shelf.scan)
        except OSError as error:
            log.warning("adapters cannot be looked for: %s", error)
        ready.set()
        # Of a very large folder, not more than a twentieth of the time; what is new may have been compiled for.
        took = 0.0 if changed else time.perf_counter() - begun
        await asyncio.sleep(max(seconds, 20 * took))


def _fault(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": " ".join(text.split())}, status, headers)


def _add_faults(app: FastAPI) -> None:
    """Every refusal is one line of JSON."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
        return _fault(422, f"{where}: {first['msg']}".encode(errors="replace").decode())

    @app.exception_handler(UnknownAdapter)
    async def unknown(request: Request, error: UnknownAdapter) -> JSONResponse:
        return _fault(404, str(error))

    @app.exception_handler(ValueError)
    async def wrong(request: Request, error: ValueError) -> JSONResponse:
        return _fault(422, str(error))

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> JSONResponse:
        return _fault(503, str(error), {"Retry-After": "1"})

    @app.exception_handler(StarletteHTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        return _fault(error.status_code, str(error.detail), dict(error.headers or {}))


def _checked(inputs: Texts, limits: Limits) -> Sequence[Text]:
    """The texts of a request; a fault of 413 or 422 if there are too many, or one is too long or no text."""
    texts: list[Text] = [inputs] if isinstance(inputs, str) else list(inputs)
    if not 1 <= len(texts) <= limits.texts:
        raise HTTPException(413 if texts else 422, f"inputs are {len(texts)} texts; accepted: 1 to {limits.texts}")
    for number, text in enumerate(texts):
        for part in (text,) if isinstance(text, str) else text:
            if len(part) > limits.characters:
                raise HTTPException(
                    413, f"text {number} has {len(part)} characters; accepted: at most {limits.characters}"
                )
            if SURROGATE.search(part):
                raise HTTPException(422, f"text {number} holds half a character; accepted: Unicode")
    return texts


def _labels(problem: Problem, prediction: Prediction, top_k: int | None) -> list[Label]:
    return [Label(label=label, score=score) for label, score in problem.served(prediction)[:top_k]]


def _described(name: str, entry: Entry, resident: bool) -> Described:
    card, problem = entry.card, entry.card.problem
    return Described(
        name=name,
        method=card.method.name,
        problem=problem.name,
        labels=list(problem.labels),
        task=card.task,
        max_length=card.max_length,
        resident=resident,
    )


def _locate(source: str, roots: Sequence[Path], hub: bool) -> Path:
    """The folder of an adapter that a client may name."""
    if source.startswith("hub:"):
        if not hub:
            raise HTTPException(422, "source is on the hub; accepted: a folder, unless the server runs with --hub")
        return locate_adapter(source)
    folder = Path(source.replace("\0", "")).resolve()
    if not any(folder.is_relative_to(root.resolve()) for root in roots):
        raise HTTPException(422, f"source is {source!r:.200}; accepted: a folder below those that are served")
    return locate_adapter(str(folder))
