"""Tables 1, 2 and 3 of the AdaKron paper (Braga et al. 2024): the sizes it prints, beside those counted here."""

import dataclasses
import functools
from collections.abc import Iterator
from decimal import Decimal

from adakron_jax.architectures.config import NAMED
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import AdaKron, AdaMix, BitFit, Full, Houlsby, LoRA, Pfeiffer, Prefix, UniPELT
from adakron_jax.params import budget
from adakron_jax.splice import Method, is_trainable

# How a figure may have been counted -> (a key of `count`, unit). The first is used in Tables 1 and 3.
CONVENTIONS = {
    "with biases / 10^6": ("method", 10**6),
    "with biases / 2^20": ("method", 2**20),
    "weights / 10^6": ("weights", 10**6),
    "weights / 2^20": ("weights", 2**20),
    "with the head / 10^6": ("with head", 10**6),
}
PAPERS = next(iter(CONVENTIONS))
# Fields that are shown even at their default.
_SIZES = {"factors", "r", "parts", "length"}


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
      table: the table's number.
      system: the paper's name for it, with the width or size if one name has several rows.
      encoder: a name in NAMED.
      method: what is trained.
      millions: the paper's figure.
      kept: what the method fuses into, if the paper counts that.
      note: what else decides the count.
    """

    table: int
    system: str
    encoder: str
    method: Method
    millions: str
    kept: Method | None = None
    note: str = ""

    def convention(self) -> str | None:
        """Returns the first convention with which our count rounds to the paper's figure; Tables 1 and 3 have one."""
        accepted = CONVENTIONS if self.table == 2 else [PAPERS]
        return next((name for name in accepted if rounds_to(self.value(name), self.millions)), None)

    def value(self, convention: str) -> Decimal:
        """Returns our count under a convention."""
        key, unit = CONVENTIONS[convention]
        return Decimal(count(self.encoder, self.kept or self.method)[key]) / unit


def rounds_to(value: Decimal, figure: str) -> bool:
    """Returns whether a value has the figure's digits; trailing zeros of a whole number do not count: 110 has two."""
    printed = Decimal(figure)
    return value.quantize(printed if "." in figure else printed.normalize()) == printed


@functools.cache
def count(encoder: str, method: Method) -> dict[str, int]:
    """Counts what a method trains of a named encoder: without the head, without biases, with a head of two labels."""
    shapes = SequenceClassifier(NAMED[encoder], method).shapes()
    trains = is_trainable(method)
    whole = budget(shapes, trains)
    weights = budget(shapes, lambda path: trains(path) and not path.endswith("/bias"))
    return {"method": whole["method"], "weights": weights["method"], "with head": whole["method"] + whole["head"]}


def described(method: Method) -> str:
    """Returns a method's name and its distinguishing fields: `adakron factors=12,4`."""
    words = [method.name]
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        if field.name in _SIZES or value != field.default:
            words.append(f"{field.name}={','.join(map(str, value)) if isinstance(value, tuple) else value}".lower())
    return " ".join(words)


def lines() -> Iterator[str]:
    """Yields the tables in plain text, line by line as they are counted."""
    yield "parameters: the method's, with biases, without the head; in M: as the heading or the row says"
    for table in sorted({row.table for row in ROWS}):
        rows = [row for row in ROWS if row.table == table]
        system, method = max(len(row.system) for row in rows), max(len(described(row.method)) for row in rows)
        yield from ("", f"Table {table}: {rows[0].encoder}" + (", as each row says" if table == 2 else f", {PAPERS}"))
        yield f"{'system':{system}}  {'method':{method}}   parameters     in M  paper  agrees"
        notes = []
        for row in rows:
            convention, counted = row.convention(), count(row.encoder, row.kept or row.method)["method"]
            agrees = "no" if convention is None else f"yes: {convention}" if table == 2 else "yes"
            yield (
                f"{row.system:{system}}  {described(row.method):{method}}  {counted:11,}"
                f"  {row.value(convention or PAPERS):7.3f}  {row.millions:>5}  {agrees}"
            )
            if row.kept:
                trained = count(row.encoder, row.method)["method"]
                notes.append(f"  {row.system}: what is kept after training; {trained:,} are trained")
            if row.note:
                notes.append(f"  {row.system}: {row.note}")
        yield from notes


_BERT, _ROBERTA = "bert-base", "roberta-large"
_AP, _APL = ("adapter", "prefix"), ("adapter", "prefix", "lora")
_FROZEN = "LayerNorms frozen; were they trained, 0.9"
_IN_2_20 = "Hu et al. (2022) print {}, which fits in units of 2^20 only"

# Widths that the paper does not state are those of Hu et al. and Wang et al. (2022). Of Houlsby's two forms, the one
# with frozen LayerNorms is used, which fits all three rows.
ROWS = [
    Row(1, "Fine-Tuning", _BERT, Full(), "110", note="110 is read as two digits; three would be 109"),
    Row(1, "Houlsby Adapter", _BERT, Houlsby(24, "adapterhub"), "0.9", note=f"width not stated; {_FROZEN} too"),
    Row(1, "BitFit", _BERT, BitFit(), "0.1"),
    Row(1, "Prefix-tuning", _BERT, Prefix(), "0.2", kept=Prefix(mlp=False)),
    Row(1, "LoRA", _BERT, LoRA(r=8), "0.3"),
    Row(1, "UNIPELT (AP)", _BERT, UniPELT(_AP), "1.1", kept=UniPELT(_AP, mlp=False)),
    Row(1, "UNIPELT (APL)", _BERT, UniPELT(_APL), "1.4", kept=UniPELT(_APL, mlp=False)),
    Row(1, "AdaMix Adapter", _BERT, AdaMix(r=48), "0.9", kept=AdaMix(r=48).plain()),
    Row(1, "Pfeiffer Adapter 48", _BERT, Pfeiffer(48), "0.9"),
    Row(1, "Pfeiffer Adapter 32", _BERT, Pfeiffer(32), "0.6"),
    Row(1, "AdaKron 48", _BERT, AdaKron((12, 4)), "0.6"),
    Row(1, "AdaKron 32", _BERT, AdaKron((8, 4)), "0.4"),
    Row(2, "Fine-Tuning", _ROBERTA, Full(), "355", note="354 without the head, whose dense is as large as a pooler"),
    Row(2, "Houlsby Adapter (6M)", _ROBERTA, Houlsby(64, "adapterhub"), "6", note=_IN_2_20.format("6.0")),
    Row(2, "Houlsby Adapter (0.8M)", _ROBERTA, Houlsby(8, "adapterhub"), "0.8", note=_FROZEN),
    Row(2, "Pfeiffer Adapter (3M)", _ROBERTA, Pfeiffer(64), "3", note=_IN_2_20.format("3.0")),
    Row(2, "Pfeiffer Adapter (0.8M)", _ROBERTA, Pfeiffer(16), "0.8"),
    Row(2, "LoRA", _ROBERTA, LoRA(r=8), "0.8"),
    Row(2, "AdaMix Adapter", _ROBERTA, AdaMix(r=16), "0.8", kept=AdaMix(r=16).plain()),
    Row(2, "AdaKron 16", _ROBERTA, AdaKron((4, 4)), "0.6"),
    Row(2, "AdaKron 32", _ROBERTA, AdaKron((8, 4)), "1.0"),
    # The paper's "output dims." are (a, r/a).
    *(
        Row(3, f"AdaKron {a * width}", _BERT, AdaKron((width, a)), millions)
        for a, sizes in (
            (2, {4: "0.1", 8: "0.2", 16: "0.5", 24: "0.7", 32: "0.9", 128: "3.6"}),
            (4, {2: "0.1", 4: "0.2", 8: "0.4", 12: "0.6"}),
        )
        for width, millions in sizes.items()
    ),
]
