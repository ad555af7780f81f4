"""Loaders given garbage: a file is read, or refused by a ValueError, soon and without much memory.

    python -m benchmarks.reliability loaders --cases 100000

Every case changes one file of a valid folder, in its bytes or its meaning, and reads the folder. A case that takes more
than SECONDS or more memory than MEMORY, or raises anything but ValueError, is bad; the first of each kind is printed.
"""

import argparse
import dataclasses
import itertools
import json
import random
import resource
import shutil
import signal
import struct
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
from benchmarks.reliability import tally
from benchmarks.reliability.garbage import changed
from benchmarks.shapes import TINY, write_encoder, write_tiny
from train.data import custom_data
from train.data.custom_data import CustomData

GOOD = {"read", "refused"}
SECONDS = 10
MEMORY = 4 * 2**30  # bytes more than the process had before
MODERNBERT = dataclasses.replace(
    TINY, model_type="modernbert", vocab_size=50, type_vocab_size=0, layer_norm_eps=1e-5, pooling="mean",
    global_every=2, window=4, global_theta=160_000.0, local_theta=10_000.0,
)  # fmt: skip
DEBERTA = dataclasses.replace(TINY, model_type="deberta-v2", vocab_size=7, type_vocab_size=0, position_buckets=16)
TAGGED = "-DOCSTART- -X- O\n\nAnna NNP B-person\nMaria NNP I-person\nlives VBZ O\n\n# a remark\nUlm NNP B-place\n" * 3


def write_good(folder: Path) -> None:
    """Writes models into `model`, `sharded`, `flax`, `modernbert` and `deberta`; adapters into `adapter`, `peft` and
    `adapterhub`; Hugging Face classifiers in `classifier` and `classifier-shards`; a table of each format in `tables`.
    """
    write_tiny(folder / "model")
    write_encoder(MODERNBERT, folder / "modernbert")
    write_encoder(DEBERTA, folder / "deberta")
    (folder / "deberta/spm.model").write_bytes(
        as_sentencepiece(("[PAD]", "[CLS]", "[SEP]", "[UNK]", "\u2581two", "word", "s"))
    )
    write_sharded(folder / "model", folder / "sharded")
    tensors = read_tensors(folder / "model/model.safetensors")
    shutil.copytree(folder / "model", folder / "flax")
    (folder / "flax/model.safetensors").unlink()
    (folder / "flax/flax_model.msgpack").write_bytes(msgpack_serialize(as_flax(tensors)))
    fast = Tokenizer(folder / "model", 10_000).fast
    (folder / "flax/tokenizer.json").write_text(fast.backend_tokenizer.to_str())
    for name, method in {"adapter": AdaKron(), "lora": LoRA(r=2), "bottleneck": Pfeiffer()}.items():
        write_adapter(folder / name, method, folder / "model")
    export_adapter(str(folder / "lora"), "peft", folder / "peft")
    export_adapter(str(folder / "bottleneck"), "adapterhub", folder / "adapterhub")
    export_adapter(str(folder / "lora"), "huggingface", folder / "classifier")
    write_sharded(folder / "classifier", folder / "classifier-shards")
    columns = {"text": ["one", 'two "words"', "three, with\na line", ""] * 4, "label": ["yes", "no"] * 8}
    (folder / "tables").mkdir()
    lines = {name: [cell.replace("\n", " ") for cell in cells] for name, cells in columns.items()}
    for suffix in WRITTEN:
        with writing(folder / f"tables/table{suffix}") as add:
            add(Table("good", range(16), lines if ".tsv" in suffix else columns))  # a TSV's fields have no line breaks
    (folder / "tables/table.conll").write_text(TAGGED)


def write_sharded(model: Path, folder: Path) -> None:
    """Writes a model's folder with its weights in two files and an index."""
    shutil.copytree(model, folder)
    (folder / "model.safetensors").unlink()
    tensors, weight_map = read_tensors(model / "model.safetensors"), {}
    for i in (0, 1):
        part = dict(itertools.islice(tensors.items(), i, None, 2))
        save_file(part, folder / f"model-{i}.safetensors")
        weight_map |= dict.fromkeys(part, f"model-{i}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def write_adapter(folder: Path, method: Method, base: Path) -> None:
    """Writes an adapter of zeros."""
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
    """Returns what reads a table as a run does, its problem included."""
    return lambda folder: custom_data.load(CustomData("table", str(folder / file), ("text",), ("label",)))


def as_flax(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns a checkpoint's tensors as the tree of Flax's classes: kernels [in, out], weights named by their kind."""
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


def as_sentencepiece(pieces: Sequence[str]) -> bytes:
    """Returns a unigram model as SentencePiece writes it: each piece with a score; the fourth is the unknown one."""

    def field(number: int, contents: bytes) -> bytes:
        return bytes((8 * number + 2, len(contents))) + contents

    scored = (field(1, piece.encode()) + b"\x15" + struct.pack("<f", -code) for code, piece in enumerate(pieces))
    return b"".join(field(1, piece) for piece in scored) + field(2, b"\x18\x01\xc0\x02\x03")


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "config.json": ("model/config.json", read_model),
    "weights": ("model/model.safetensors", read_model),
    "vocab.txt": ("model/vocab.txt", read_tokenizer),
    "tokenizer_config.json": ("model/tokenizer_config.json", read_tokenizer),
    "tokenizer.json": ("flax/tokenizer.json", read_tokenizer),
    "index": ("sharded/model.safetensors.index.json", read_model),
    "a shard": ("sharded/model-0.safetensors", read_model),
    "ModernBERT's config.json": ("modernbert/config.json", read_model),
    "DeBERTa's config.json": ("deberta/config.json", read_model),
    "DeBERTa's pieces": ("deberta/spm.model", read_tokenizer),
    "msgpack": ("flax/flax_model.msgpack", read_model),
    "adapter.json": ("adapter/adapter.json", adapter.load),
    "adapter's tensors": ("adapter/adapter.safetensors", adapter.load),
    **{
        f"{tool}'s {file}": (f"{tool}/{file}", read_foreign)
        for tool, files in {
            "peft": ("adapter_config.json", "adapter_model.safetensors"),
            "adapterhub": ("adapter_config.json", "head_config.json", "adapter.safetensors"),
            "classifier": ("config.json", "model.safetensors"),
            "classifier-shards": ("model.safetensors.index.json", "model-0.safetensors"),
        }.items()
        for file in files
    },
    **{f"{suffix} table": (f"tables/table{suffix}", read_table(f"table{suffix}")) for suffix in (*WRITTEN, ".conll")},
}


class TooLong(BaseException):
    """A case took more than SECONDS."""


@contextmanager
def bounded() -> Iterator[None]:
    """Raises TooLong in what takes too long, and MemoryError in what takes too much memory."""

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
    """Tries a case; returns how it ended: `read`, `refused`, or what was wrong."""
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
    except BaseException as error:  # anything except the user's wish to stop
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    return "read"


def fuzz(scratch: Path, names: Sequence[str], cases: int, first: int = 0) -> dict[str, Counter[str]]:
    """Returns how `cases` cases of each file ended."""
    write_good(scratch / "good")
    for file, read in READERS.values():
        read((scratch / "good" / file).parent)
    numbers = range(first, first + cases)
    return {
        name: tally(((f"{name}, case {n}", attempt(scratch / "good", scratch, name, n)) for n in numbers), GOOD)
        for name in names
    }


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", type=int, default=100_000, help="cases of all files together (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first case's number")
    parser.add_argument("--file", nargs="+", choices=READERS, default=list(READERS))


def main(given: argparse.Namespace, scratch: Path) -> bool:
    ends = fuzz(scratch, given.file, -(-given.cases // len(given.file)), given.first)
    for name, counter in ends.items():
        print(f"{name}: {', '.join(f'{end} {times:,}' for end, times in counter.most_common())}")
    print(f"{sum(map(sum, (counter.values() for counter in ends.values()))):,} cases")
    return not any(counter.keys() - GOOD for counter in ends.values())
