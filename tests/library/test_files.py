"""Files appear whole, through links, and into what is no plain file; caches are where they can be."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from adakron_jax.io.files import MOST_JSON, appearing, cache_folder, check_writable, read_json, write_whole

ROOT = Path(__file__).parents[2]


def test_a_link_stays_one_and_the_file_it_leads_to_is_replaced(tmp_path: Path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    write_whole(tmp_path / "link.json", b"new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_pipe_is_written_into(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_whole(tmp_path / "pipe", b"all of it")
    reader.join(10)
    assert read == [b"all of it"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_device_stays_one():
    write_whole(Path(os.devnull), b"nothing")
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_stdout_that_goes_to_a_file_is_written_on(tmp_path: Path, name: str):
    write = f"files.write_whole(files.Path({name!r}), b'it\\n')"
    code = f"from adakron_jax.io import files; print('before'); {write}; print('after')"
    with (tmp_path / "out").open("wb") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True, cwd=ROOT, timeout=100)
    assert (tmp_path / "out").read_text() == "before\nit\nafter\n"


@pytest.mark.parametrize("name", ["folder", "no/such", "dangling", "circle", "x" * 300])
def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path, name: str):
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere/file")
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(ValueError, match="cannot be written.*; accepted: a file"):
        check_writable(tmp_path / name)
    check_writable(tmp_path / "new")


def test_a_long_name_has_room_for_the_one_aside(tmp_path: Path):
    path = tmp_path / ("ü" * 125 + ".json")
    with appearing(path) as aside:
        aside.write_text("x")
    assert path.read_text() == "x"


def test_a_description_of_many_labels_can_be_read(tmp_path: Path):
    write_whole(tmp_path / "a.json", b'{"labels": ["' + b'", "'.join(b"%040d" % i for i in range(24_000)) + b'"]}')
    assert len(read_json(tmp_path / "a.json")["labels"]) == 24_000
    (tmp_path / "b.json").write_bytes(b" " * (MOST_JSON + 1))
    with pytest.raises(ValueError, match=r"b\.json: .* bytes; accepted: at most"):
        read_json(tmp_path / "b.json")


@pytest.mark.parametrize(("home", "cache"), [("/dev/null", None), ("{tmp}", None), ("{tmp}", "{tmp}/file")])
def test_a_cache_is_where_it_can_be_or_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str, cache: str | None
):
    (tmp_path / "file").touch()
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home.format(tmp=tmp_path))
    if cache:
        monkeypatch.setenv("XDG_CACHE_HOME", cache.format(tmp=tmp_path))
    expected = tmp_path / ".cache/adakron-jax" if (home, cache) == ("{tmp}", None) else None
    assert cache_folder() == expected
