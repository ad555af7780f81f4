"""What can be wrong with a file: its bytes, or its meaning, as other programs and their users write it."""

import json
import random
import struct
from typing import Any

import numpy as np
from safetensors.numpy import load, save

DAMAGE = ("cut", "emptied", "turned")  # what a disk or a copy may do to a file
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "\0", "../../etc/passwd", "x" * 10_000, "bert", "roberta", "gelu", [], {}, [[]], [None], {"": {}}),
    *(["a"] * 1000, {"auto_map": {"AutoModel": "evil.Model"}}, "__import__('os').system('true')"),
)
# What programs write under these keys for two labels: correct, for another task, or contradicting one another.
SAID: dict[str, tuple[Any, ...]] = {
    "architectures": (
        *(["BertForSequenceClassification"], ["BertForTokenClassification"], ["BertForMultipleChoice"], ["BertModel"]),
        *(["BertForMaskedLM", "BertForSequenceClassification"], "BertForSequenceClassification", [], [[]], [{}], None),
    ),
    "classifier_pooling": ("cls", "mean", "max", ["mean"], None),
    "problem_type": ("single_label_classification", "multi_label_classification", "regression", "ranking", [], None),
    "task_type": ("SEQ_CLS", "TOKEN_CLS", "CAUSAL_LM", "FEATURE_EXTRACTION", ["SEQ_CLS"], None),
    "id2label": (
        *({"0": "yes", "1": "no"}, {"0": "no", "1": "yes"}, {"0": "LABEL_0", "1": "LABEL_1"}, {"0": "yes"}, ["no"]),
        *({"1": "yes", "2": "no"}, {"0": "yes", "1": "yes"}, {"0": 0, "1": 1}, {"0": None, "1": []}, {"yes": "no"}),
    ),
    "label2id": (
        *({"yes": 0, "no": 1}, {"no": 0, "yes": 1}, {"yes": "0", "no": "1"}, {"yes": 0}, {"yes": 0, "no": 0}, ["yes"]),
        *({"yes": 0.0, "no": 1.5}, {"yes": None, "no": []}, {"yes": -1, "no": 0}, {"yes": 2**70, "no": 1}),
    ),
    "num_labels": (0, 1, 2, 3, 10**9),
}
# What wrappers and other models prefix to the names of tensors.
PREFIXES = ("module.", "_orig_mod.", "module._orig_mod.", "model.", "bert.", "base_model.model.", "")
DTYPES = ("F64", "BF16", "F16", "F8_E4M3", "F4", "I64", "U8", "BOOL", "C64", "object")
TAGS = ("O", "B-person", "I-person", "I-place", "E-place", "S-place", "B-", "-person", "B_person", "o", "0", "", "\0")


def changed(rng: random.Random, contents: bytes, name: str) -> bytes:
    """Returns the contents with something wrong: in their meaning, if that is possible, or in their bytes."""
    if rng.random() < 0.6:
        if name.endswith(".json"):
            return json.dumps(changed_values(rng, json.loads(contents))).encode()
        if name.endswith(".safetensors"):
            return rng.choice([changed_header, changed_tensors])(rng, contents)
        if name.endswith(".conll"):
            return changed_tags(rng, contents)
    return changed_bytes(rng, contents, rng.choice([*DAMAGE, "garbage", "doubled", "brackets"]))


def changed_bytes(rng: random.Random, contents: bytes, kind: str) -> bytes:
    """Returns the contents cut, emptied, with a bit flipped, with garbage inserted, doubled, or endless brackets."""
    at = rng.randrange(len(contents))
    if kind == "cut":
        return contents[:at]
    if kind == "emptied":
        return b""
    if kind == "turned":
        return contents[:at] + bytes([contents[at] ^ 1 << rng.randrange(8)]) + contents[at + 1 :]
    if kind == "garbage":
        return contents[:at] + rng.randbytes(rng.randrange(1, 64)) + contents[at:]
    if kind == "doubled":
        return contents + contents
    return rng.choice([b"[", b'{"a":', b"\xff\xfe", b"\x00"]) * rng.choice([1, 100_000])


def changed_values(rng: random.Random, value: Any) -> Any:
    """Returns a JSON value with one of its values, at any depth, changed, removed, or joined by an unknown one."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.3:
            return value | {key: rng.choice(SAID[key]) for key in rng.sample(list(SAID), rng.randrange(1, 4))}
        if rng.random() < 0.05:
            prefix = rng.choice(PREFIXES)
            return {prefix + other: value[other] for other in value}
        if rng.random() < 0.15:
            return {other: value[other] for other in value if other != key}
        if rng.random() < 0.1:
            return {**value, "auto_map": rng.choice(NASTY), "unknown": rng.choice(NASTY)}
        return {**value, key: changed_values(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], changed_values(rng, value[at]), *value[at + 1 :]]
    return rng.choice(NASTY)


def changed_tensors(rng: random.Random, contents: bytes) -> bytes:
    """Returns a valid safetensors file with other tensors: all or one under a prefix, one twice, without the pooler or
    half of it, without another one, or with one of another type.
    """
    tensors, kind, prefix = load(contents), rng.randrange(6), rng.choice(PREFIXES)
    chosen = rng.choice(sorted(tensors))
    pooler = sorted(name for name in tensors if "pooler" in name)
    if kind == 0:
        tensors = {prefix + name: tensor for name, tensor in tensors.items()}
    elif kind == 1:
        tensors[prefix + chosen] = tensors.pop(chosen)
    elif kind == 2:
        tensors[prefix + chosen] = tensors[chosen]
    elif kind == 3:
        gone = rng.choice([pooler, pooler[:1], pooler[1:]])
        tensors = {name: tensor for name, tensor in tensors.items() if name not in gone}
    elif kind == 4:
        del tensors[chosen]
    else:
        tensors[chosen] = tensors[chosen].astype(rng.choice([np.float16, np.float64, np.int64, np.bool_]))
    return save(tensors)


def changed_tags(rng: random.Random, contents: bytes) -> bytes:
    """Returns a file of tagged words with a wrong tag, a field more or fewer, an odd line, or no breaks or tags."""
    lines = contents.decode().split("\n")
    at = rng.randrange(len(lines))
    fields, kind = lines[at].split(" "), rng.randrange(6)
    if kind == 0:
        fields[-1] = rng.choice(TAGS)
    elif kind == 1:
        fields.append(rng.choice(TAGS))
    elif kind == 2:
        fields = fields[1:]
    lines[at] = rng.choice([" ", "\t", "  ", "\u00a0"]).join(fields)
    if kind == 3:
        others = ("", " ", "\t", "# a remark", "-DOCSTART- -X- O", "-DOCSTART-", "\ufeff", "\r", "\u2028")
        lines.insert(at, rng.choice(others))
    elif kind == 4:
        lines = [line for line in lines if line]  # one sentence
    elif kind == 5:
        lines = [line.rsplit(" ", 1)[0] for line in lines]  # no tags
    return "\n".join(lines).encode()


def changed_header(rng: random.Random, contents: bytes) -> bytes:
    """Returns a safetensors file whose header is false: its own size, or a tensor's shape, type or place."""
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
