"""A server on a free port, over adapters of the tiny encoder."""

import contextlib
import dataclasses
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from adakron_jax import adapter
from adakron_jax.bank import AdapterBank
from adakron_jax.methods import AdaKron, LoRA
from adakron_jax.serving.app import make_app
from adakron_jax.serving.engine import Engine, make_engine
from adakron_jax.serving.limits import Limits
from adakron_jax.splice import Method
from tests.bank.test_bank import PROBLEMS, TAGS, write_adapter

SCAN = 0.05  # seconds between looks at the folder
TOKENS = 16  # of the longest text: a server starts the sooner, the fewer lengths it has to compile
TWO_LENGTHS = 24  # tokens of an adapter whose server has rows of two lengths


@dataclasses.dataclass
class Served:
    """A server, a client of it, and the folder that it watches."""

    url: str
    client: httpx2.Client
    folder: Path
    engine: Engine
    server: uvicorn.Server

    def put(self, name: str, adapter: Path) -> None:
        """Puts an adapter into the folder, whole."""
        aside = self.folder / f".{name}"
        shutil.copytree(adapter, aside)
        old = self.folder / name
        if old.exists():
            old.rename(self.folder / f".old-{name}")
        aside.rename(old)
        shutil.rmtree(self.folder / f".old-{name}", ignore_errors=True)

    def ask(self, name: str, inputs: Any, **more: Any) -> httpx2.Response:
        return self.client.post("/predict", json={"inputs": inputs, "adapter": name, **more})


def wait_for(condition: Any, seconds: float = 240, every: float = 0.02) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(every)


@contextlib.contextmanager
def serving(folder: Path, base: Path, **settings: Any) -> Iterator[Served]:
    """A running server, ready unless `wait` is False."""
    of_engine = {"queue_limit": 64, "resident": 4, "patience": 0.003}
    of_engine |= {key: settings.pop(key) for key in list(settings) if key in of_engine}
    wait = settings.pop("wait", True)
    engine = make_engine([folder], str(base), **of_engine)
    app = make_app(engine, seconds_between_scans=SCAN, **settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    with httpx2.Client(base_url=url, timeout=60) as client:
        served = Served(url, client, folder, engine, server)
        if wait:
            wait_for(lambda: client.get("/health").status_code == 200, every=0.2)  # each look costs what compiles
        yield served
    server.should_exit = True
    thread.join()


def write_tagger(folder: Path, base: Path, method: Method, longest: int = TOKENS) -> None:
    """An adapter that finds several entities in a text."""
    write_adapter(folder, base, method, TAGS, 1, longest)
    tree, card = adapter.load(folder)
    tree["classifier"]["kernel"] = 30 * tree["classifier"]["kernel"]  # so that words differ
    tree["classifier"]["bias"][0] = -1
    adapter.save(folder, tree, card)


@pytest.fixture(scope="session")
def shelf(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapters of the tiny encoder, of two methods and all problems."""
    folder = tmp_path_factory.mktemp("shelf")
    for number, problem in enumerate(PROBLEMS):
        write_adapter(folder / f"kron-{number}", tiny, AdaKron((3, 2)), problem, number, TOKENS)
    write_adapter(folder / "lora", tiny, LoRA(r=2), max_length=TOKENS)
    return folder


@pytest.fixture(scope="session")
def bank(shelf: Path, tiny: Path) -> AdapterBank:
    """What the server is to predict."""
    bank = AdapterBank(str(tiny))
    for folder in shelf.iterdir():
        bank.add(folder.name, folder)
    return bank


@pytest.fixture(scope="module")
def served(shelf: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("adapters") / "adapters"
    shutil.copytree(shelf, folder)
    with serving(folder, tiny, limits=Limits(body=10_000, texts=8, characters=500)) as server:
        yield server
