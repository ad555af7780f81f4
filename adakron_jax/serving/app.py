"""The server's endpoints."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import jax.numpy as jnp
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from adakron_jax import __version__
from adakron_jax.serving.access import Bearer, Behind
from adakron_jax.serving.engine import Busy, Engine, Failed
from adakron_jax.serving.folders import UnknownAdapter, shown_base
from adakron_jax.serving.limits import BodyLimit, Limits
from adakron_jax.serving.messages import (
    AsTextEmbeddingsInference,
    Described,
    Fault,
    Health,
    Info,
    Refused,
    Reply,
    Source,
    ToAdapter,
    ToAny,
    complaint,
)
from adakron_jax.serving.prometheus import CONTENT_TYPE, Measured, Metrics
from adakron_jax.serving.server import Server

log = logging.getLogger("adakron.serving")
_OPEN = {"/health"}  # paths that need no token
_FAULTS: dict[int | str, dict[str, Any]] = {code: {"model": Fault} for code in (400, 401, 404, 413, 422, 500, 503)}
router = APIRouter(responses=_FAULTS)

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]


def _server(request: Request) -> Server:
    return request.app.state.server


Serving = Annotated[Server, Depends(_server)]


def make_app(
    engine: Engine,
    *,
    limits: Limits = Limits(),  # noqa: B008
    token: str = "",
    hub: bool = False,
    origins: Sequence[str] = (),
    root_path: str = "",
    seconds_between_scans: float = 2.0,
) -> FastAPI:
    """Makes the application.

    Args:
      token: the token that requests must carry; empty for none.
      hub: whether adapters may be fetched from the hub.
      origins: origins of other servers' pages that browsers allow to send requests; `*` for all.
      root_path: the path under which a proxy shows the server.
      seconds_between_scans: of the adapters' folders.
    """
    server = Server(engine, limits, hub, Metrics(engine))

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        server.watching = asyncio.create_task(_watch(server, seconds_between_scans))
        yield
        server.watching.cancel()
        await asyncio.to_thread(engine.stop)

    app = FastAPI(
        title="AdaKron-JAX",
        summary="Many adapters on one encoder",
        version=__version__,
        lifespan=lifespan,
    )
    app.state.server = server
    app.include_router(router)
    app.add_middleware(BodyLimit, most=limits.body)
    if token:
        app.add_middleware(Bearer, token=token, unguarded=_OPEN)
    app.add_middleware(LastResort)
    if origins:
        methods, headers = ("GET", "HEAD", "POST", "PUT", "DELETE"), ("Authorization", "Content-Type")
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=methods, allow_headers=headers)
    app.add_middleware(Behind, root_path=root_path)
    app.add_middleware(Measured, metrics=server.metrics)  # the last is the outermost
    _add_faults(app)
    return app


async def _watch(server: Server, seconds: float) -> None:
    """Scans for adapters repeatedly; the server is ready after the first scan."""
    last = ""
    while True:
        begun, changed, problem = time.perf_counter(), [], ""
        try:
            changed = await asyncio.to_thread(server.engine.folders.scan)
        except OSError as error:
            problem = str(error)
        if problem and problem != last:
            log.warning("the adapters' folders cannot be scanned: %s", problem)
        if changed:
            log.info("adapters served: %d, of which %d are new", len(server.engine.folders.entries), len(changed))
        last = problem
        server.ready.set()
        # Scans take at most a twentieth of the time; those that found changes do not count, as they may have compiled.
        took = 0.0 if changed else time.perf_counter() - begun
        await asyncio.sleep(max(seconds, 20 * took))


def _add_faults(app: FastAPI) -> None:
    """Makes every refusal one line of JSON."""

    def fault(status: int, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": " ".join(text.split())}, status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        of_body = any(first["loc"][:1] == ("body",) for first in error.errors())
        return fault(422, complaint(error.errors(), request.headers.get("content-type"), of_body))

    for kind, status, headers in ((UnknownAdapter, 404, None), (Busy, 503, {"Retry-After": "1"}), (Failed, 500, None)):

        @app.exception_handler(kind)
        async def raised(
            request: Request, error: Exception, status: int = status, headers: dict[str, str] | None = headers
        ) -> JSONResponse:
            return fault(status, str(error), headers)

    @app.exception_handler(StarletteHTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        return fault(error.status_code, str(error.detail), dict(error.headers or {}))


class LastResort:
    """ASGI middleware that logs errors that nothing else has caught, and answers 500."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        begun = False

        async def sent(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, sent)
        except Exception:
            if begun or scope["type"] != "http":
                raise
            log.exception("%s %s raised an error", scope["method"], scope["path"])
            await JSONResponse({"error": "internal error; the server's log describes it"}, 500)(scope, receive, send)


@router.post("/predict")
async def predict(body: ToAny, server: Serving) -> list[Reply] | Reply:
    """Returns one text's labels, the most probable first, or its entities; a list of such lists for several texts."""
    replies = await server.predict(body.adapter, body.texts(), body.parameters)
    return replies[0] if isinstance(body.inputs, str) else replies


@router.post("/adapters/{name}")
async def predict_as_the_hub(name: str, body: ToAdapter, server: Serving) -> list[Reply] | Reply:
    """Replies like the hub's inference API: a list per text, also for one text's labels, but not for its entities."""
    server.check_ready()
    alone = server.finds_entities(name) and isinstance(body.inputs, str)
    replies = await server.predict(name, body.texts(), body.parameters)
    return replies[0] if alone else replies


@router.post("/adapters/{name}/predict")
async def predict_as_text_embeddings_inference(
    name: str, body: AsTextEmbeddingsInference, server: Serving
) -> list[Reply] | Reply:
    """Reads and replies like `/predict` of text-embeddings-inference, where `["a", "b"]` is a pair."""
    replies = await server.predict(name, body.texts(), body.parameters)
    return replies if body.is_batch else replies[0]


@router.get("/adapters")
async def adapters(server: Serving) -> list[Described | Refused]:
    """Lists the adapters that are served, and those that cannot be."""
    folders = server.engine.folders
    served = {name: server.described(name, entry) for name, entry in folders.entries.items()}
    refused = {name: Refused(name=name, error=refusal.reason) for name, refusal in folders.refused.items()}
    return [described for _, described in sorted((refused | served).items())]


@router.get("/adapters/{name}")
async def adapter(name: str, server: Serving) -> Described:
    """Describes one adapter that is served; 404 says why another is not."""
    server.check_ready()
    return server.described(name, server.engine.folders[name])


@router.put("/adapters/{name}")
async def add(name: Name, body: Source, server: Serving) -> Described:
    """Serves an adapter under a name, in place of any adapter of that name."""
    server.check_ready()
    return await asyncio.to_thread(server.add, name, body.source)


@router.delete("/adapters/{name}", status_code=204)
async def remove(name: str, server: Serving) -> None:
    """Stops serving an adapter until its files change."""
    server.engine.folders.remove(name)


@router.head("/health")
@router.get("/health")
async def health(server: Serving) -> Health:
    """Says whether everything is compiled, so that requests are answered at once."""
    server.check_ready()
    if server.watching is None or server.watching.done():
        raise Busy("the folders are no longer watched")
    return Health()


@router.get("/info")
async def info(server: Serving) -> Info:
    """Describes the encoder, and what requests may ask for."""
    engine, limits = server.engine, server.limits
    return Info(
        version=__version__,
        model_id=shown_base(engine.base),
        model_sha=engine.bank.fingerprint,
        model_dtype=jnp.dtype(jnp.float32 if engine.bank.dtype is None else engine.bank.dtype).name,
        max_concurrent_requests=engine.queue_limit,
        max_input_length=engine.bank.config.max_length,
        max_client_batch_size=limits.texts,
        auto_truncate=True,
        max_characters=limits.characters,
        max_body_bytes=limits.body,
        adapters=len(engine.folders.entries),
        refused=len(engine.folders.refused.keys() - engine.folders.entries.keys()),
        resident=len(engine.used),
        max_resident=engine.resident,
    )


@router.get("/metrics", response_class=Response)
async def show_metrics(server: Serving) -> Response:
    """Returns the metrics for Prometheus."""
    return Response(server.metrics.page(), media_type=CONTENT_TYPE)
