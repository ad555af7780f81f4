"""DeBERTa's tokenizer, read from `tokenizer.json` as it is, or from the published file of SentencePiece.

transformers 5 rebuilds it without the file's own normalisation of characters, and needs two libraries to read the
file. These fields of the message in the file are read:

    ModelProto        1: pieces     2: trainer_spec     3: normalizer_spec
    piece             1: its text   2: score            3: type (3: control, 4: defined by the user)
    trainer_spec      3: model type (1: unigram)    35: whether the unknown falls back to bytes    40: unknown piece
    normalizer_spec   2: how characters are normalised, compiled
"""

import struct
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram

from adakron_jax.io.files import read_object

FILE, WHOLE = "spm.model", "tokenizer.json"
_SPECIAL = {
    name: f"[{name[:-6].upper()}]" for name in ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")
}
_UNIGRAM, _CONTROL, _DEFINED = 1, 3, 4


def has(folder: Path) -> bool:
    """Returns whether a folder is DeBERTa's with either file; its Chinese models have a vocabulary like BERT's."""
    config = folder / "config.json"
    named = config.is_file() and read_object(config).get("model_type") == "deberta-v2"
    return named and ((folder / FILE).is_file() or (folder / WHOLE).is_file())


def read(folder: Path) -> tuple[Tokenizer, dict[str, str]]:
    """Returns a folder's tokenizer, and its special tokens by their names in `transformers`.

    Raises:
      ValueError: the file is damaged, or its model is not a unigram.
    """
    said = read_object(path) if (path := folder / "tokenizer_config.json").is_file() else {}
    special = {name: said.get(name) or default for name, default in _SPECIAL.items()}
    special = {name: token["content"] if isinstance(token, dict) else token for name, token in special.items()}
    if (folder / WHOLE).is_file():
        return Tokenizer.from_file(str(folder / WHOLE)), special
    tokenizer, first, last = _from_pieces(folder / FILE, said), special["cls_token"], special["sep_token"]
    tokenizer.add_special_tokens(list(special.values()))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first}:0 $A:0 {last}:0",
        pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
    return tokenizer, special


def _from_pieces(path: Path, said: Mapping[str, Any]) -> Tokenizer:
    model = _parsed(path.read_bytes())
    trainer, normalizer = (_parsed(b"".join(model[number])) for number in (2, 3))
    if (kind := trainer.get(3, [_UNIGRAM])[0]) != _UNIGRAM:
        raise ValueError(f"{FILE}: its model type is {kind}; accepted: {_UNIGRAM}, unigram")
    rules = [rule for rule in normalizer.get(2, []) if rule]
    claimed = (int.from_bytes(rule[:4], "little") for rule in rules)  # bytes that the library would allocate
    if any(size > len(rule) - 4 for size, rule in zip(claimed, rules, strict=True)):
        raise ValueError(f"{FILE} is damaged")
    pieces = [_parsed(piece) for piece in model[1]]
    texts = [piece[1][0].decode() for piece in pieces]
    scores = [struct.unpack("<f", piece[2][0])[0] if 2 in piece else 0.0 for piece in pieces]
    unknown, bytewise = trainer.get(40, [0])[0], bool(trainer.get(35, [0])[0])
    tokenizer = Tokenizer(Unigram(list(zip(texts, scores, strict=True)), unk_id=unknown, byte_fallback=bytewise))
    kinds = [piece.get(3, [1])[0] for piece in pieces]
    tokenizer.add_tokens(
        [
            AddedToken(text, normalized=False, special=kind == _CONTROL)
            for text, kind in zip(texts, kinds, strict=True)
            if kind in (_CONTROL, _DEFINED)
        ]
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            *([normalizers.Lowercase()] if said.get("do_lower_case") else []),
            normalizers.Strip(),
            *map(normalizers.Precompiled, rules),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *([pre_tokenizers.Punctuation("isolated")] if said.get("split_by_punct") else []),
            pre_tokenizers.Metaspace(prepend_scheme="always"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return tokenizer


def _parsed(message: bytes) -> dict[int, list[Any]]:
    """Parses a message's fields: number -> values, whole numbers or bytes; ValueError if it ends within a field."""
    fields: dict[int, list[Any]] = defaultdict(list)
    at = 0

    def number() -> int:
        nonlocal at
        value, shift = 0, 0
        while True:
            if at >= len(message):
                raise ValueError(f"{FILE} is cut off")
            byte, at = message[at], at + 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        field, kind = divmod(number(), 8)
        if kind == 0:
            fields[field].append(number())
            continue
        sizes = {1: 8, 5: 4}
        if kind not in (2, *sizes):
            raise ValueError(f"{FILE} is damaged")
        size = number() if kind == 2 else sizes[kind]
        if at + size > len(message):
            raise ValueError(f"{FILE} is cut off")
        fields[field].append(message[at : at + size])
        at += size
    return fields
