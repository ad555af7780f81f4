"""Short forms of the proofs in benchmarks/reliability."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.reliability import damage, garbage, loaders
from tests.support import runs


def test_garbage_is_read_or_refused_by_every_loader(tmp_path: Path) -> None:
    ends = loaders.fuzz(tmp_path, list(loaders.READERS), cases=12)
    assert {end for counter in ends.values() for end in counter} == {"read", "refused"}
    assert all(sum(counter.values()) == 12 for counter in ends.values())


@pytest.mark.parametrize("name", ["config.json", "weights", "index", "adapter.json"])
def test_a_case_is_the_same_each_time(name: str, tmp_path: Path) -> None:
    contents = b'\x10\0\0\0\0\0\0\0{"a": {}, "b": 1}' if name == "weights" else b'{"a": {"b": [1, 2]}}'
    file, _ = loaders.READERS[name]
    one, other = (garbage.changed(random.Random(5), contents, file) for _ in range(2))
    assert one == other


def test_one_process_holds_a_folder_whoever_comes_and_goes() -> None:
    # In a process of its own: it forks, which one that computes must not.
    words = ["-m", "benchmarks.reliability", "races", "--times", "50", "--programs", "0"]
    printed = subprocess.run([sys.executable, *words], cwd=runs.ROOT, capture_output=True, text=True, timeout=120)
    assert printed.returncode == 0, printed.stderr
    assert "at once: held 50 times, 0 of them by two at once" in printed.stdout
    assert "coming and going: held 200 times, 0 of them by two at once" in printed.stdout


@pytest.mark.parametrize("kind", damage.KINDS)
def test_a_file_is_damaged_in_one_place(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"contents")
    damage.damage(random.Random(0), path, kind)
    if kind == "deleted":
        assert not path.exists()
    elif kind == "turned":
        bits = int.from_bytes(path.read_bytes()) ^ int.from_bytes(b"contents")
        assert bits.bit_count() == 1
    else:
        assert b"contents".startswith(path.read_bytes())
        assert path.read_bytes() != b"contents"


def test_a_refusal_has_to_name_what_was_damaged(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints/8/default/manifest"
    assert damage.names("checkpoints/8: damaged checkpoint", path, tmp_path)
    assert not damage.names("something is wrong", path, Path("elsewhere") / path)


def test_what_differs_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    for name in ("adapter/adapter.safetensors", "adapter/adapter.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes(b"{}")
    (tmp_path / "result.json").write_text('{"best": 1, "seconds": 2}')
    right = runs.outcome(tmp_path)
    (tmp_path / "result.json").write_text('{"best": 1, "seconds": 3}')
    assert runs.differences(tmp_path, right) == []
    (tmp_path / "metrics.jsonl").write_bytes(b"{} ")
    assert runs.differences(tmp_path, right) == ["metrics.jsonl"]
    (tmp_path / "result.json").unlink()
    assert "result.json" in runs.differences(tmp_path, right)[0]
