"""The bank: adapters by name, and batches in which every example meets the adapter of its name."""

import dataclasses
import difflib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from adakron_jax import adapter
from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.bank.shapes import COPIES, shapes
from adakron_jax.bank.stack import Stack, padded_outputs
from adakron_jax.data.batches import batches
from adakron_jax.data.examples import Examples
from adakron_jax.data.packing import Layout
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.inputs import Packed
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.hub.models import locate
from adakron_jax.params import flatten
from adakron_jax.precision import dtype_of
from adakron_jax.predictor import by_batch
from adakron_jax.problems import Prediction
from adakron_jax.tokenizer import Tokenizer

Text = str | tuple[str, str]


@dataclasses.dataclass
class Totals:
    """What was in all batches so far; positions are tokens and padding."""

    batches: int = 0
    examples: int = 0
    tokens: int = 0
    positions: int = 0

    @property
    def fill(self) -> float:
        """Share of the positions that were tokens."""
        return self.tokens / max(1, self.positions)


@dataclasses.dataclass(frozen=True)
class Member:
    """An adapter in the bank: its card, and its number in a stack."""

    card: Card
    stack: Stack
    number: int


class AdapterBank:
    """Adapters of one encoder, by name.

    Adapters of one method, with its fields, and of one form of head share batches, whatever their labels. Of others
    the batches are apart; the caller need not know. Adding, replacing and removing compile nothing while there is room;
    `reserve` makes room. Not to be used by several threads at once.

        bank = AdapterBank("bert-base-uncased")
        bank.add("rte", "runs/rte/adapter")
        bank.predict([("rte", ("A man sleeps.", "A man is awake.")), ("spam", "You have won!")])
    """

    def __init__(self, base: str, *, dtype: Any = "auto"):
        """Loads the encoder.

        Args:
          base: a folder, `pkg:NAME`, or a hub id.
          dtype: the precision it computes in, as `from_pretrained` takes it; the encoder is kept in it.

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
        self._prepared: set[tuple[SequenceClassifier, int]] = set()

    @property
    def names(self) -> list[str]:
        """Of the adapters, sorted."""
        return sorted(self.members)

    @property
    def compilations(self) -> int:
        """Executables compiled so far."""
        return sum(stack.compilations for stack in self.stacks.values())

    def add(self, name: str, path: str | Path) -> Card:
        """Takes in the adapter in a folder under a name, in place of one that has it; returns its card.

        Raises:
          ValueError: the folder holds no adapter, or one of another encoder; a replaced one then stays.
        """
        tree, card = adapter.load(Path(path))
        card.check_encoder(self.fingerprint, "the bank's encoder", path)
        stack = self._stack(card)
        old = self.members.get(name)
        number = stack.put(flatten(tree), old.number if old and old.stack is stack else None)
        if old and old.stack is not stack:
            self.remove(name)
        self.members[name] = Member(card, stack, number)
        return card

    def remove(self, name: str) -> None:
        """Forgets an adapter; ValueError if there is none of this name."""
        member = self._member(name)
        member.stack.free.append(member.number)
        del self.members[name]

    def prepare(self, card: Card, adapters: int = 1) -> None:
        """Makes room for adapters like this, and compiles all that they take, so that nothing is compiled later.

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
        return card.classifier(dtype=self.dtype).clone(num_labels=padded_outputs(card.problem.outputs))

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

    def predict(self, requests: Sequence[tuple[str, Text]], *, with_logits: bool = False) -> list[Prediction]:
        """The prediction of every (name, text or pair of texts) by the adapter of that name.

        Raises:
          ValueError: there is no adapter of a name; names near it are given.
        """
        members = [self._member(name) for name, _ in requests]
        if not requests:
            return []
        examples = encode(self.tokenizer, [text for _, text in requests], [m.card.max_length for m in members])
        predictions: dict[int, Prediction] = {}
        for layout, logits in self._logits(members, examples):
            by_example = zip(layout.ids.tolist(), logits[layout.row, layout.slot], strict=True)
            predictions |= {i: _prediction(members[i], row, with_logits) for i, row in by_example}
        return [predictions[i] for i in range(len(requests))]

    def predict_all(self, text: Text) -> dict[str, Prediction]:
        """Every adapter's prediction of a text, or of a pair of texts.

        Adapters in the upper layers alone share the pass through those below.
        """
        below = [name for name, member in self.members.items() if not member.stack.first_layer]
        predictions = dict(zip(below, self.predict([(name, text) for name in below]), strict=True))
        groups: dict[tuple[int, int], list[str]] = {}
        for name in self.members.keys() - predictions.keys():
            member = self.members[name]
            groups.setdefault((id(member.stack), member.card.max_length), []).append(name)
        for (_, max_length), names in groups.items():
            examples = encode(self.tokenizer, [text], [max_length])
            for start in range(0, len(names), COPIES[-1]):
                chosen = names[start : start + COPIES[-1]]
                members = [self.members[name] for name in chosen]
                numbers = np.zeros(next(size for size in COPIES if size >= len(chosen)), np.int32)
                numbers[: len(chosen)] = [member.number for member in members]
                ((batch, _),) = batches(examples, self.shapes)
                logits = np.asarray(members[0].stack.logits(numbers, batch.inputs))[:, 0]
                for name, member, values in zip(chosen, members, logits, strict=False):
                    predictions[name] = _prediction(member, values)
        return {name: predictions[name] for name in self.names}

    def _logits(
        self, members: Sequence[Member], examples: Examples
    ) -> Iterator[tuple[Layout, Float[np.ndarray, "rows slots outputs"]]]:
        """Batch by batch where the examples are, and their logits by their members."""
        numbers = np.array([member.number for member in members], np.int32)
        by_stack: dict[int, list[int]] = {}
        for i, member in enumerate(members):
            by_stack.setdefault(id(member.stack), []).append(i)

        def forward(inputs: Packed, layout: Layout) -> jax.Array:
            of_rows = np.zeros(len(inputs.tokens), np.int32)
            of_rows[layout.row] = numbers[layout.ids]
            self._count(inputs, examples.lengths[layout.ids])
            return members[layout.ids[0]].stack.logits(of_rows, inputs)

        packed = (batches(examples, self.shapes, np.array(ids)) for ids in by_stack.values())
        return by_batch(forward, itertools.chain.from_iterable(packed))

    def _count(self, inputs: Packed, lengths: np.ndarray) -> None:
        self.totals.batches += 1
        self.totals.examples += len(lengths)
        self.totals.tokens += int(lengths.sum())
        self.totals.positions += inputs.tokens.size


def _prediction(member: Member, logits: np.ndarray, with_logits: bool = False) -> Prediction:
    """What a padded head's logits mean."""
    problem = member.card.problem
    return problem.predictions(logits[None, : problem.outputs], with_logits)[0]


def encode(tokenizer: Tokenizer, texts: Sequence[Text], max_lengths: Sequence[int]) -> Examples:
    """Texts and pairs of texts as ids, each cut to its length."""
    kinds: dict[tuple[int, int], list[int]] = {}
    pairs = [(text,) if isinstance(text, str) else text for text in texts]
    for i, (pair, length) in enumerate(zip(pairs, max_lengths, strict=True)):
        kinds.setdefault((len(pair), length), []).append(i)
    parts = []
    for (size, length), numbers in kinds.items():
        columns = [[pairs[i][part] for i in numbers] for part in range(size)]
        parts.append(tokenizer.encode(columns, length))
    none = np.zeros(0, np.int32)
    joined = Examples(
        tokens=np.concatenate([none, *(part.tokens for part in parts)]),
        token_types=np.concatenate([none, *(part.token_types for part in parts)]),
        offsets=np.cumsum(np.concatenate([[0], *(part.lengths for part in parts)])),
        labels=np.zeros(len(texts), np.int32),
        empty_texts=0,
    )
    return joined.take(np.argsort([i for numbers in kinds.values() for i in numbers]))
