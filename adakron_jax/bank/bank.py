"""The bank: adapters by name, and batches in which each example is computed with the adapter of its name."""

import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from adakron_jax import adapter
from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.bank.shapes import COPIES, shapes
from adakron_jax.bank.stack import Stack, forward_all, padded_outputs
from adakron_jax.data.batches import batches
from adakron_jax.data.examples import Examples
from adakron_jax.data.packing import Batch, Layout
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.inputs import Packed
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.hub.models import locate
from adakron_jax.model import check_finite
from adakron_jax.params import flatten
from adakron_jax.predictor import in_order
from adakron_jax.problems import Problem
from adakron_jax.tokenizer import Tokenizer
from adakron_jax.xla.compiled import PerShape
from adakron_jax.xla.precision import dtype_of, fuses

Text = str | tuple[str, str]
_Item = TypeVar("_Item")


@dataclasses.dataclass
class Totals:
    """Counts over all batches so far; positions are tokens and padding."""

    batches: int = 0
    examples: int = 0
    tokens: int = 0
    positions: int = 0

    @property
    def fill(self) -> float:
        """The share of positions that were tokens."""
        return self.tokens / max(1, self.positions)


@dataclasses.dataclass(frozen=True)
class Member:
    """An adapter in the bank: its card, and its number in a stack."""

    card: Card
    stack: Stack
    number: int


class AdapterBank:
    """Adapters of one encoder, by name.

    Adapters of one method, with its fields, and of one form of head share batches, whatever their labels. Others, such
    as those that find entities, get separate batches, which the caller does not notice. Adding, replacing and removing
    compile nothing while there is room; `prepare` makes room. Only one thread may use a bank at a time.

        bank = AdapterBank("bert-base-uncased")
        bank.add("rte", "runs/rte/adapter")
        bank.predict([("rte", ("A man sleeps.", "A man is awake.")), ("spam", "You have won!")])
    """

    def __init__(self, base: str, *, dtype: Any = "auto"):
        """Loads the encoder.

        Args:
          base: a folder, `pkg:NAME`, or a hub id.
          dtype: the precision to compute in, as in `from_pretrained`; the encoder is kept in this precision.

        Raises:
          ValueError: there is no such encoder, or it cannot be read.
        """
        self.dtype = dtype_of(dtype)
        folder = locate(base)
        self.config = EncoderConfig.from_folder(folder)
        self.tokenizer = Tokenizer(folder, self.config.vocab_size)
        leaves = pretrained.read(folder, self.config)
        self.fingerprint = pretrained.fingerprint(leaves)
        self.base = jax.device_put({path: jnp.asarray(leaf, self.dtype) for path, leaf in leaves.items()})
        self.members: dict[str, Member] = {}
        self.stacks: dict[SequenceClassifier, Stack] = {}
        self.shapes = shapes(self.config.max_length)
        self.totals = Totals()
        self._together: dict[tuple[SequenceClassifier, ...], PerShape] = {}
        self._prepared: set[tuple[SequenceClassifier, int]] = set()

    @property
    def names(self) -> list[str]:
        """The adapters' names, sorted."""
        return sorted(self.members)

    @property
    def compilations(self) -> int:
        """Number of executables compiled so far."""
        return sum(function.compilations for function in (*self.stacks.values(), *self._together.values()))

    def add(self, name: str, path: str | Path) -> Card:
        """Adds the adapter in a folder under a name, or replaces the one of that name; returns its card.

        Raises:
          ValueError: the folder holds no adapter, an adapter of another encoder, or one whose numbers are not finite;
            an adapter to be replaced then stays.
        """
        tree, card = adapter.load(Path(path))
        card.check_encoder(self.fingerprint, "the bank's encoder", path)
        try:
            check_finite(tree)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        stack = self._stack(card)
        old = self.members.get(name)
        number = stack.put(flatten(tree), old.number if old and old.stack is stack else None)
        if old and old.stack is not stack:
            self.remove(name)
        self.members[name] = Member(card, stack, number)
        return card

    def remove(self, name: str) -> None:
        """Removes an adapter; ValueError if there is none of this name."""
        member = self._member(name)
        member.stack.free.append(member.number)
        del self.members[name]

    def prepare(self, card: Card, adapters: int = 1) -> None:
        """Makes room for adapters like this one, and compiles all that they need, so that nothing is compiled later.

        Another thread may do this while the bank is in use.
        """
        model, wanted = self._model(card), shapes(card.max_length)
        if (model, card.max_length) in self._prepared:
            return
        stack = self.stacks.get(model)
        if stack is None:
            stack = Stack(model, self.base)
            stack.reserve(adapters)
        stack.warm(wanted)
        self.stacks[model] = stack
        self._prepared.add((model, card.max_length))

    def _model(self, card: Card) -> SequenceClassifier:
        model = card.classifier(dtype=self.dtype)
        return model.clone(num_labels=padded_outputs(card.problem.outputs), fused=fuses(self.dtype, devices=1))

    def _stack(self, card: Card) -> Stack:
        model = self._model(card)
        if model not in self.stacks:
            self.stacks[model] = Stack(model, self.base)
        return self.stacks[model]

    def _member(self, name: str) -> Member:
        if name not in self.members:
            near = difflib.get_close_matches(name, self.members, 3)
            accepted = ", ".join(near) if near else f"one of {len(self.members)} names"
            raise ValueError(f"adapter is {name!r}; accepted: {accepted}")
        return self.members[name]

    def predict(self, requests: Sequence[tuple[str, Text]], *, with_logits: bool = False) -> list[Any]:
        """Predicts each request's text, or pair of texts, with the adapter that it names.

        Returns:
          A `Prediction` for each request; a list of `Entity` from adapters that find entities.

        Raises:
          ValueError: there is no adapter of a name, and similar names are listed; or an adapter that finds entities is
            given a pair, or returns numbers that are not finite.
        """
        members = [self._member(name) for name, _ in requests]
        texts = [_parts(text) for _, text in requests]
        predictions: dict[int, Any] = {}
        for of_stack in _grouped(range(len(requests)), lambda i: id(members[i].stack)):
            groups = _grouped(of_stack, lambda i: len(texts[i]), lambda i: members[i].card.max_length)
            encoded = [self._encode(members[group[0]].card, [texts[i] for i in group]) for group in groups]
            logits = self._logits([members[i] for group in groups for i in group], Examples.joined(encoded))
            ends = np.cumsum([(part.labels >= 0).sum() if part.of_tokens else len(part) for part in encoded])
            for group, examples, values in zip(groups, encoded, np.split(logits, ends[:-1]), strict=True):
                for places in _grouped(range(len(group)), lambda k, group=group: members[group[k]].card.problem):
                    problem = members[group[places[0]]].card.problem
                    said = _said(problem, examples, values, np.array(places), with_logits)
                    predictions |= {group[k]: prediction for k, prediction in zip(places, said, strict=True)}
        return [predictions[i] for i in range(len(requests))]

    def predict_all(self, text: Text) -> dict[str, Any]:
        """Predicts a text, or a pair of texts, with every adapter, as `predict` does.

        Adapters in the upper layers alone share the pass through the layers below, whatever they predict.

        Raises:
          ValueError: the text is a pair, and some adapter finds entities.
        """
        below = [name for name, member in self.members.items() if not member.stack.first_layer]
        predictions = dict(zip(below, self.predict([(name, text) for name in below]), strict=True))
        upper = [name for name in self.members if name not in predictions]
        asked: dict[tuple[bytes, bytes], list[tuple[list[str], Examples]]] = {}
        for names in _grouped(
            upper, lambda name: id(self.members[name].stack), lambda name: self.members[name].card.max_length
        ):
            examples = self._encode(self.members[names[0]].card, [_parts(text)])
            # Adapters that read the same tokens run together, whatever they predict.
            same = asked.setdefault((examples.tokens.tobytes(), examples.offsets.tobytes()), [])
            same += [(names[start : start + COPIES[-1]], examples) for start in range(0, len(names), COPIES[-1])]
        for together in asked.values():
            for (names, examples), logits in zip(together, self._over_one(together), strict=True):
                for name, values in zip(names, logits, strict=False):
                    predictions[name] = _said(self.members[name].card.problem, examples, values)[0]
        return {name: predictions[name] for name in self.names}

    def _over_one(
        self, asked: Sequence[tuple[list[str], Examples]]
    ) -> list[Float[np.ndarray, "adapters vectors outputs"]]:
        """Computes the logits of one text with adapters of each stack; all read the same tokens."""
        stacks = [self.members[names[0]].stack for names, _ in asked]
        selected = []
        for stack, (names, _) in zip(stacks, asked, strict=True):
            numbers = np.zeros(next(size for size in COPIES if size >= len(names)), np.int32)
            numbers[: len(names)] = [self.members[name].number for name in names]
            selected.append(stack.selected(numbers))
        models = tuple(stack.model for stack in stacks)
        if models not in self._together:
            self._together[models] = PerShape(jax.jit(functools.partial(forward_all, models=models)))
        frozen = {path: leaf for stack in stacks for path, leaf in stack.frozen.items()}
        parts: list[list[np.ndarray]] = [[] for _ in asked]
        windows = asked[0][1]
        for window in range(len(windows)):
            ((batch, _),) = batches(windows, self.shapes, np.array([window]))
            every = self._together[models](frozen, (selected, batch.inputs))
            for part, (_, examples), logits in zip(parts, asked, every, strict=True):
                labels = examples.labels[slice(*examples.offsets[window : window + 2])]
                places = np.flatnonzero(labels >= 0) if examples.of_tokens else [0]
                part.append(np.asarray(logits)[:, places])
        return [np.concatenate(part, axis=1) for part in parts]

    def _encode(self, card: Card, texts: Sequence[tuple[str, ...]]) -> Examples:
        """Encodes texts, or pairs of texts, for adapters like this one."""
        return card.problem.encode(
            self.tokenizer, [list(column) for column in zip(*texts, strict=True)], card.max_length
        )

    def _logits(self, members: Sequence[Member], examples: Examples) -> Float[np.ndarray, "vectors outputs"]:
        """Computes logits of examples, or of their words, with the members of one stack."""
        numbers = np.array([member.number for member in members], np.int32)
        numbers = numbers[examples.rows] if examples.of_tokens else numbers

        def forward(inputs: Packed, layout: Layout) -> jax.Array:
            of_rows = np.zeros(len(inputs.tokens), np.int32)
            of_rows[layout.row] = numbers[layout.ids]
            return members[0].stack.logits(of_rows, inputs)

        return in_order(forward, self._counted(batches(examples, self.shapes), examples.lengths), examples)

    def _counted(
        self, packed: Iterable[tuple[Batch, Layout]], lengths: Int[np.ndarray, " examples"]
    ) -> Iterator[tuple[Batch, Layout]]:
        for batch, layout in packed:
            self.totals.batches += 1
            self.totals.examples += len(layout.ids)
            self.totals.tokens += int(lengths[layout.ids].sum())
            self.totals.positions += batch.inputs.tokens.size
            yield batch, layout


def _parts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text)


def _said(
    problem: Problem, examples: Examples, logits: np.ndarray, chosen: Any = slice(None), with_logits: bool = False
) -> list[Any]:
    """Turns the logits of a padded head, for some of the examples, into predictions."""
    arranged = problem.arranged(examples, logits[:, : problem.outputs])
    arranged = arranged if isinstance(chosen, slice) else arranged[chosen]
    if not np.isfinite(getattr(arranged, "values", 0.0)).all():
        raise ValueError("an adapter that finds entities returned numbers that are not finite")
    return problem.predictions(arranged, with_logits)


def _grouped(items: Iterable[_Item], *keys: Callable[[_Item], Any]) -> list[list[_Item]]:
    """Groups items with equal keys, in the order of each group's first item."""
    groups: dict[tuple[Any, ...], list[_Item]] = {}
    for item in items:
        groups.setdefault(tuple(key(item) for key in keys), []).append(item)
    return list(groups.values())
