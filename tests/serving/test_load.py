"""The proof under load, in short: adapters change and clients hang up, and every answer is the adapter's own."""

import asyncio
import shutil
from collections import Counter
from pathlib import Path

from adakron_jax.methods import AdaKron
from benchmarks.load import CHURNED, Clients, Reply, churn, expected_replies, texts
from tests.serving.conftest import TWO_LENGTHS, serving, write_tagger


def test_no_answer_is_wrong_or_lost_while_adapters_change_and_clients_hang_up(
    shelf: Path, tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "adapters"
    shutil.copytree(shelf, folder, ignore=shutil.ignore_patterns("kron-3"))
    write_tagger(folder / "tags", tiny, AdaKron((3, 2)), TWO_LENGTHS)
    names = sorted(path.name for path in folder.iterdir())
    kron = [names.index("kron-0"), names.index("kron-1")]
    asked = texts(6)
    answers = expected_replies([folder / name for name in names], asked)

    def accepted(name: str, text: str) -> list[Reply]:
        return [answers[number, text] for number in (kron if name == CHURNED else [names.index(name)])]

    async def proof(url: str) -> Counter[str]:
        churning = asyncio.create_task(churn(folder, [folder / "kron-0", folder / "kron-1"], 0.3))
        clients = Clients(url, accepted, [*names, CHURNED], asked)
        await clients.keep(per_second=40, seconds=3, hang_up=0.05)
        churning.cancel()
        return clients.counts

    with serving(folder, tiny, resident=3) as served:
        compiled = served.engine.bank.compilations
        counts = asyncio.run(proof(served.url))
        assert served.engine.bank.compilations == compiled
        assert served.engine.waiting == 0
    assert (counts["wrong"], counts["lost"]) == (0, 0)
    assert counts["answered"] > 20
    assert counts["hung_up"] > 0
