"""Loaders under garbage: a file is read, or refused by a ValueError; nothing else, not for long, not with much memory.

    python -m benchmarks.reliability loaders --cases 100000

Every case changes one file of a good folder, by its bytes or by its meaning, and reads the folder. A case that takes
more than SECONDS, more memory than MEMORY, or raises anything but ValueError is printed and kept.
"""

import argparse
import json
import random
import resource
import shutil
import signal
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.serialization import msgpack_serialize
from safetensors.numpy import save_file

from adakron_jax import adapter
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.data.formats import WRITTEN
from adakron_jax.data.table import Table
from adakron_jax.data.writer import writing
from adakron_jax.encoders import pretrained
from adakron_jax.interop.convert import export_adapter, import_adapter
from adakron_jax.io.files import read_tensors
from adakron_jax.methods import AdaKron, LoRA, Pfeiffer
from adakron_jax.problems import make
from adakron_jax.splice import Method
from adakron_jax.tokenizer import Tokenizer
from benchmarks.tiny import write_tiny
from train.data import custom_data
from train.data.custom_data import CustomData

SECONDS = 10
MEMORY = 4 * 2**30  # bytes above what the process had
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "\0", "../../etc/passwd", "x" * 10_000, "bert", "roberta", "gelu", [], {}, [[]], [None], {"": {}}),
    *(["a"] * 1000, {"auto_map": {"AutoModel": "evil.Model"}}, "__import__('os').system('true')"),
)


def write_good(folder: Path) -> None:
    """A model's folder in `model`, the same in other forms in `sharded` and `flax`, an adapter's in `adapter`, adapters
    of other programs in `peft` and `adapterhub`, and a table in every format in `tables`.
    """
    write_tiny(folder / "model")
    for other in ("sharded", "flax"):
        shutil.copytree(folder / "model", folder / other, dirs_exist_ok=True)
        (folder / other / "model.safetensors").unlink(missing_ok=True)
    tensors = read_tensors(folder / "model/model.safetensors")
    save_file(tensors, folder / "sharded/model-1.safetensors")
    index = {"weight_map": dict.fromkeys(tensors, "model-1.safetensors")}
    (folder / "sharded/model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "flax/flax_model.msgpack").write_bytes(msgpack_serialize(as_flax(tensors)))
    fast = Tokenizer(folder / "model", 10_000).fast
    (folder / "flax/tokenizer.json").write_text(fast.backend_tokenizer.to_str())
    for name, method in {"adapter": AdaKron(), "lora": LoRA(r=2), "bottleneck": Pfeiffer()}.items():
        write_adapter(folder / name, method, folder / "model")
    export_adapter(str(folder / "lora"), "peft", folder / "peft")
    export_adapter(str(folder / "bottleneck"), "adapterhub", folder / "adapterhub")
    columns = {"text": ["one", 'two "words"', "three, with\na line", ""] * 4, "label": ["yes", "no"] * 8}
    (folder / "tables").mkdir()
    lines = {name: [cell.replace("\n", " ") for cell in cells] for name, cells in columns.items()}
    for suffix in WRITTEN:
        with writing(folder / f"tables/table{suffix}") as add:
            add(Table("good", range(16), lines if ".tsv" in suffix else columns))  # a TSV's fields hold no line's end


def write_adapter(folder: Path, method: Method, base: Path) -> None:
    """An adapter of zeros."""
    encoder = EncoderConfig.from_folder(base)
    problem, known = make("classification", ("yes", "no")), pretrained.fingerprint(pretrained.read(base, encoder))
    card = adapter.Card(method, "rte", problem, str(base), known, encoder, {"accuracy": 0.5}, max_length=64)
    tree = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), adapter.portable_shapes(card))
    adapter.save(folder, tree, card)


def read_model(folder: Path) -> None:
    pretrained.read(folder, EncoderConfig.from_folder(folder))


def read_tokenizer(folder: Path) -> None:
    Tokenizer(folder, 10_000).fast("two words")


def read_foreign(folder: Path) -> None:
    import_adapter(folder, str(folder.parents[1] / "good/model"), folder.parent / "imported")


def read_table(file: str) -> Callable[[Path], Any]:
    """As a run does: its problem too."""
    return lambda folder: custom_data.load(CustomData("table", str(folder / file), ("text",), ("label",)))


def as_flax(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """A checkpoint's tensors as the tree of Flax's classes: kernels [in, out], weights by what they are."""
    tree: dict[str, Any] = {}
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        if kind == "weight":
            kind = "scale" if tensor.ndim == 1 else "embedding" if module.endswith("_embeddings") else "kernel"
        *path, last = module.split(".")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node.setdefault(last, {})[kind] = np.ascontiguousarray(tensor.T) if kind == "kernel" else tensor
    return tree


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "config.json": ("model/config.json", read_model),
    "weights": ("model/model.safetensors", read_model),
    "vocab.txt": ("model/vocab.txt", read_tokenizer),
    "tokenizer_config.json": ("model/tokenizer_config.json", read_tokenizer),
    "tokenizer.json": ("flax/tokenizer.json", read_tokenizer),
    "index": ("sharded/model.safetensors.index.json", read_model),
    "msgpack": ("flax/flax_model.msgpack", read_model),
    "adapter.json": ("adapter/adapter.json", adapter.load),
    "adapter's tensors": ("adapter/adapter.safetensors", adapter.load),
    **{
        f"{program}'s {file}": (f"{program}/{file}", read_foreign)
        for program, files in {
            "peft": ("adapter_config.json", "adapter_model.safetensors"),
            "adapterhub": ("adapter_config.json", "head_config.json", "adapter.safetensors"),
        }.items()
        for file in files
    },
    **{f"{suffix} table": (f"tables/table{suffix}", read_table(f"table{suffix}")) for suffix in WRITTEN},
}


def changed(rng: random.Random, contents: bytes, name: str) -> bytes:
    """The contents with something wrong: of their meaning where that can be had, or of their bytes."""
    if rng.random() < 0.6:
        if name.endswith(".json"):
            return json.dumps(changed_values(rng, json.loads(contents))).encode()
        if name.endswith(".safetensors"):
            return changed_header(rng, contents)
    return changed_bytes(rng, contents)


def changed_bytes(rng: random.Random, contents: bytes) -> bytes:
    """Cut, emptied, a bit turned, garbage put in, doubled, or brackets without end."""
    at, kind = rng.randrange(len(contents)), rng.randrange(6)
    garbage = rng.randbytes(rng.randrange(1, 64))
    if kind == 0:
        return contents[:at]
    if kind == 1:
        return b""
    if kind == 2:
        return contents[:at] + bytes([contents[at] ^ 1 << rng.randrange(8)]) + contents[at + 1 :]
    if kind == 3:
        return contents[:at] + garbage + contents[at:]
    if kind == 4:
        return contents + contents
    return rng.choice([b"[", b'{"a":', b"\xff\xfe", b"\x00"]) * rng.choice([1, 100_000])


def changed_values(rng: random.Random, value: Any) -> Any:
    """A JSON value with one of its values, at any depth, changed, removed, or joined by one that is not known."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.15:
            return {other: value[other] for other in value if other != key}
        if rng.random() < 0.1:
            return {**value, "auto_map": rng.choice(NASTY), "unknown": rng.choice(NASTY)}
        return {**value, key: changed_values(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], changed_values(rng, value[at]), *value[at + 1 :]]
    return rng.choice(NASTY)


def changed_header(rng: random.Random, contents: bytes) -> bytes:
    """A safetensors file whose header lies: of its own size, of a tensor's shape, type or place."""
    (size,) = struct.unpack("<Q", contents[:8])
    if rng.random() < 0.2:
        return struct.pack("<Q", rng.choice([0, 1, size - 1, size + 1, 2**40, 2**63, 2**64 - 1])) + contents[8:]
    header, data = json.loads(contents[8 : 8 + size]), contents[8 + size :]
    name = rng.choice([name for name in header if name != "__metadata__"])
    kind, huge = rng.randrange(5), 100 * 2**30
    if kind == 0:
        header[name] = changed_values(rng, header[name])
    elif kind == 1:  # a tensor of 100 GB
        header[name] |= {"shape": [huge // 4], "data_offsets": [0, huge]}
    elif kind == 2:
        header[name]["shape"] = rng.choice([[0], [], [2**62, 2], [-1], [1] * 1000])
    elif kind == 3:
        header[name]["dtype"] = rng.choice(
            ["F64", "BF16", "F16", "F8_E4M3", "F4", "I64", "U8", "BOOL", "C64", "object"]
        )
    else:
        header = changed_values(rng, header)
    written = json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + data


class TooLong(BaseException):
    """A case took more than SECONDS."""


@contextmanager
def bounded() -> Iterator[None]:
    """Ends what takes too long by TooLong, and what takes too much memory by MemoryError."""

    def late(*about: Any) -> None:
        raise TooLong

    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, before[1]))
    handler = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def attempt(good: Path, scratch: Path, name: str, seed: int) -> str:
    """How a case ends: `read`, `refused`, or what was wrong."""
    file, read = READERS[name]
    folder = scratch / "case"
    shutil.copytree(good / Path(file).parent, folder / Path(file).parent, dirs_exist_ok=True)
    path = folder / file
    path.write_bytes(changed(random.Random(f"{name} {seed}"), path.read_bytes(), file))
    try:
        with bounded():
            read(path.parent)
    except ValueError as error:
        return "refused" if str(error) else "refused without a word"
    except BaseException as error:  # whatever it is, but the user's own wish to stop
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    return "read"


def fuzz(scratch: Path, names: Sequence[str], cases: int, first: int = 0) -> dict[str, Counter]:
    """How `cases` cases of each file ended."""
    write_good(scratch / "good")
    for file, read in READERS.values():
        read((scratch / "good" / file).parent)
    ends: dict[str, Counter] = {name: Counter() for name in names}
    for seed in range(first, first + cases):
        for name in names:
            end = attempt(scratch / "good", scratch, name, seed)
            ends[name][end] += 1
            if end not in ("read", "refused") and ends[name][end] == 1:
                print(f"{name}, case {seed}: {end}", file=sys.stderr, flush=True)
    return ends


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", type=int, default=100_000, help="of all files together (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first case's number")
    parser.add_argument("--file", nargs="+", choices=READERS, default=list(READERS))


def main(given: argparse.Namespace, scratch: Path) -> bool:
    ends = fuzz(scratch, given.file, -(-given.cases // len(given.file)), given.first)
    for name, counter in ends.items():
        print(f"{name}: {', '.join(f'{end} {times:,}' for end, times in counter.most_common())}")
    print(f"{sum(map(sum, (counter.values() for counter in ends.values()))):,} cases")
    return not any(counter.keys() - {"read", "refused"} for counter in ends.values())
