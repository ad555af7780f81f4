"""The bank: every example of a batch is answered as by its adapter alone, and adapters come and go."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax import adapter
from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.bank import AdapterBank
from adakron_jax.bank.bank import Text
from adakron_jax.bank.stack import _forward, forward_all
from adakron_jax.classifier import TextClassifier
from adakron_jax.data.examples import Examples
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.inputs import Packed, blank, padded
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import AdaKron, LoRA
from adakron_jax.methods.registry import METHODS
from adakron_jax.params import flatten, unflatten
from adakron_jax.problems import Problem, make
from adakron_jax.splice import Method
from adakron_jax.token_classifier import load
from adakron_jax.tokenizer import Tokenizer
from benchmarks.shapes import write_encoder
from tests.support.architectures import NARROW, TINY
from tests.support.methods import TELLING, nightly_but

SIZES = {"hidden_size": 128, "intermediate_size": 64, "initializer_range": 0.1}
BINARY = make("classification", ("no", "yes"))
PROBLEMS = [
    BINARY,
    make("classification", tuple("abcde")),
    make("multilabel", ("red", "green", "blue")),
    make("regression", mean=2.0, scale=0.5),
]
TEXTS: list[Text] = ["one two", "three " * 9, ("four five", "six"), "seven", "eight nine ten " * 3]


def write_base(folder: Path, tiny: Path, model_type: str, layers: int = 2) -> Path:
    """A random encoder wide enough for every method's default fields, with the tiny one's tokenizer."""
    tokens = Tokenizer(tiny, (encoder := EncoderConfig.from_folder(tiny)).vocab_size)
    sizes = SIZES | {
        "num_layers": layers,
        "vocab_size": encoder.vocab_size,
        "max_position_embeddings": encoder.max_position_embeddings,
    }
    write_encoder(dataclasses.replace(TINY[model_type], **sizes), folder)
    tokens.fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["bert", pytest.param("roberta", marks=pytest.mark.nightly)])
def base(request: pytest.FixtureRequest, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp(request.param), tiny, request.param)


@pytest.fixture(scope="module")
def bert(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("bert"), tiny, "bert")


def write_adapter(
    folder: Path, base: Path, method: Method, problem: Problem = BINARY, seed: int = 0, max_length: int | None = None
) -> Path:
    """An adapter of the encoder in `base`, of random leaves; it reads all that the encoder can, or `max_length`."""
    config = EncoderConfig.from_folder(base)
    fingerprint = pretrained.fingerprint(pretrained.read(base, config))
    card = Card(method, "test", problem, str(base), fingerprint, config, {}, max_length or config.max_length)
    rng = np.random.default_rng(seed)
    shapes = flatten(adapter.portable_shapes(card))
    leaves = {path: rng.normal(0, 0.1, leaf.shape).astype(np.float32) for path, leaf in sorted(shapes.items())}
    adapter.save(folder, unflatten(leaves), card)
    return folder


@functools.partial(jax.jit, static_argnums=0)
def apply(model: SequenceClassifier, params: Any, inputs: Packed) -> jax.Array:
    return model.apply({"params": params}, inputs)  # pyright: ignore[reportReturnType]


class Alone:
    """Adapters on their own, one text at a time."""

    def __init__(self, base: Path):
        self.config = EncoderConfig.from_folder(base)
        self.leaves = pretrained.read(base, self.config)
        self.tokenizer = Tokenizer(base, self.config.vocab_size)

    def logits(self, folder: Path, texts: list[Text]) -> np.ndarray:
        """[texts, labels] of the adapter in a folder."""
        model, params, card = adapter.attach(folder, self.leaves)
        length = self.config.max_length
        parts = [(text,) if isinstance(text, str) else text for text in texts]
        examples = Examples.joined([self.tokenizer.encode([[part] for part in pair], length) for pair in parts])
        tokens, types, mask = (np.zeros((len(texts), length), np.int32) for _ in range(3))
        for i, (begin, size) in enumerate(zip(examples.offsets, examples.lengths, strict=False)):
            tokens[i, :size], types[i, :size] = (
                x[begin : begin + size] for x in (examples.tokens, examples.token_types)
            )
            mask[i, :size] = 1
        return np.asarray(apply(model, params, padded(*map(jnp.asarray, (tokens, mask, types)))))[:, 0]


def check(bank: AdapterBank, alone: Alone, folders: dict[str, Path], requests: list[tuple[str, Text]]) -> None:
    """The bank answers every request as the adapter in its folder does alone."""
    predictions = bank.predict(requests)
    logits = {name: alone.logits(folder, TEXTS) for name, folder in folders.items()}
    for (name, text), prediction in zip(requests, predictions, strict=True):
        problem, row = bank.members[name].card.problem, logits[name][[TEXTS.index(text)]]
        if problem.name == "regression":
            assert prediction.label is None
            np.testing.assert_allclose(prediction.score, problem.predict(row)[0], rtol=0, atol=1e-5)
            continue
        probabilities = problem.probabilities(row)[0]
        assert list(prediction.probabilities) == list(problem.labels)
        np.testing.assert_allclose(list(prediction.probabilities.values()), probabilities, rtol=0, atol=1e-5)
        held = [label for label, holds in zip(problem.labels, problem.predict(row).ravel(), strict=False) if holds]
        best = problem.labels[probabilities.argmax()]
        assert prediction.label == (tuple(held) if problem.name == "multilabel" else best)


def check_two(name: str, base: Path, tmp_path: Path) -> None:
    """Two adapters of a method, asked in turn."""
    bank = AdapterBank(str(base))
    method = METHODS[name](**NARROW.get(name, {}))
    folders = {key: write_adapter(tmp_path / key, base, method, BINARY, ord(key)) for key in "ab"}
    for key, folder in folders.items():
        bank.add(key, folder)
    check(bank, Alone(base), folders, [(key, text) for text in TEXTS for key in "ba"])


# Two of them are in a bank with all problems below.
@pytest.mark.parametrize("name", nightly_but({*TELLING} - {"adakron", "lora", "ia3", "c3a"}))
def test_every_example_is_answered_as_by_its_adapter_alone(name: str, base: Path, tmp_path: Path) -> None:
    check_two(name, base, tmp_path)


def test_a_bank_in_bf16_answers_as_each_adapter_in_bf16_alone(base: Path, tmp_path: Path) -> None:
    banks = {dtype: AdapterBank(str(base), dtype=dtype) for dtype in ("f32", "bf16")}
    assert {leaf.dtype.name for leaf in banks["bf16"].base.values()} == {"bfloat16"}
    requests = [(key, text) for text in TEXTS for key in "ab"]
    for key in "ab":
        folder = write_adapter(tmp_path / key, base, METHODS["adakron"](), BINARY, ord(key))
        for bank in banks.values():
            bank.add(key, folder)
    alone = {key: TextClassifier.load(tmp_path / key, dtype="bf16") for key in "ab"}
    bank = {dtype: bank.predict(requests) for dtype, bank in banks.items()}
    for (key, text), narrow, wide in zip(requests, bank["bf16"], bank["f32"], strict=True):
        assert narrow.score == pytest.approx(alone[key].predict(text).score, abs=0.01)
        assert narrow.score == pytest.approx(wide.score, abs=0.03)
    assert [one.score for one in bank["bf16"]] != [one.score for one in bank["f32"]]


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("modernbert", "prefix"),
        *(
            pytest.param(*case, marks=pytest.mark.nightly)
            for case in itertools.product(("modernbert", "distilbert", "electra"), ("adakron", "lora"))
        ),
    ],
)
def test_encoders_of_other_architectures_have_banks_too(model_type: str, name: str, tiny: Path, tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", tiny, model_type)
    check_two(name, base, tmp_path)


@pytest.fixture(scope="module")
def mixed(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[AdapterBank, dict[str, Path]]:
    """A bank of adapters of two methods and all problems."""
    bank, folder = AdapterBank(str(bert)), tmp_path_factory.mktemp("adapters")
    methods = {"adakron": AdaKron(), "lora": LoRA()}
    folders = {
        f"{name}-{number}": write_adapter(folder / f"{name}-{number}", bert, method, problem, number)
        for name, method in methods.items()
        for number, problem in enumerate(PROBLEMS if name == "adakron" else [BINARY])
    }
    for name, path in folders.items():
        bank.add(name, path)
    return bank, folders


def test_methods_and_problems_share_one_call(
    mixed: tuple[AdapterBank, dict[str, Path]], bert: Path, tmp_path: Path
) -> None:
    bank, folders = mixed
    assert bank.names == sorted(folders)
    assert len(bank.stacks) == 2
    check(bank, Alone(bert), folders, [(name, text) for text in TEXTS for name in folders])


def test_adapters_come_and_go_without_a_compilation(
    mixed: tuple[AdapterBank, dict[str, Path]], bert: Path, tmp_path: Path
) -> None:
    bank, folders = mixed
    other = write_adapter(tmp_path / "other", bert, AdaKron(), PROBLEMS[1], seed=9)
    before, of_lora = (bank.predict([(name, TEXTS[0])]) for name in ("adakron-0", "lora-0"))
    compiled = bank.compilations
    with compilations() as compilations_of_jax:
        bank.add("new", other)
        added = bank.predict([("new", TEXTS[0])])
        bank.add("new", folders["adakron-0"])  # of other labels
        assert bank.predict([("new", TEXTS[0])]) == before
        bank.add("new", folders["lora-0"])  # of another method
        assert bank.predict([("new", TEXTS[0])]) == of_lora
        bank.add("new", other)
        assert bank.predict([("new", TEXTS[0])]) == added
        bank.remove("new")
        assert bank.predict([("adakron-0", TEXTS[0])]) == before
    assert bank.compilations == compiled
    assert compilations_of_jax == []
    with pytest.raises(ValueError, match="adapter is 'new'; accepted: one of 5 names"):
        bank.predict([("new", TEXTS[0])])


def test_all_adapters_of_upper_layers_share_the_pass_below(
    mixed: tuple[AdapterBank, dict[str, Path]], bert: Path, tmp_path: Path
) -> None:
    bank, folders = AdapterBank(str(bert)), dict(mixed[1])
    for number, (text, problem) in enumerate(zip("xyz", PROBLEMS, strict=False)):
        folders[text] = write_adapter(tmp_path / text, bert, AdaKron(layers="1"), problem, number)
    for name, folder in folders.items():
        bank.add(name, folder)
    for text in (TEXTS[1], TEXTS[2]):
        found, expected = bank.predict_all(text), bank.predict([(name, text) for name in bank.names])
        assert list(found) == bank.names
        for one, other in zip(found.values(), expected, strict=True):
            assert one.label == other.label
            np.testing.assert_allclose(one.score, other.score, rtol=0, atol=1e-5)
    # Of two layers the first is computed of one row; of the second, its first tokens by as many adapters as there are.
    stack = bank.members["x"].stack
    selected = {path: leaf[np.zeros(8, int)] for path, leaf in stack.leaves.items()}
    forward = functools.partial(_forward, model=stack.model)
    traced = str(jax.make_jaxpr(forward)(stack.frozen, (selected, blank(1, 16, 1))))
    assert "f32[1,16,64]" in traced
    assert "f32[8,1,1,128]" in traced
    assert "f32[8,1,16," not in traced


TAGS = make("tokens", ("O", "B-name", "I-name", "B-place", "I-place"))


def test_adapters_that_find_entities_share_a_bank_with_others(bert: Path, tmp_path: Path) -> None:
    bank, problems = AdapterBank(str(bert)), {"names": TAGS, "same": TAGS, "other": make("tokens", ("I-x", "O"))}
    problems |= {"labels": PROBLEMS[1]}
    folders = {
        name: write_adapter(tmp_path / name, bert, LoRA(r=2, layers="1"), problem, ord(name[0]))
        for name, problem in problems.items()
    }
    for name, folder in folders.items():
        bank.add(name, folder)
    texts = ["Anna went to Ulm", "", "one two three " * 60]
    alone = {name: load(folder) for name, folder in folders.items()}
    requests = [(name, text) for text in texts for name in problems]
    for (name, text), said in zip(requests, bank.predict(requests), strict=True):
        assert same(said, alone[name].predict(text))
    for text in texts:
        every = bank.predict_all(text)
        assert list(every) == bank.names
        assert all(same(said, alone[name].predict(text)) for name, said in every.items())
    with pytest.raises(ValueError, match="2 texts per example; accepted: one, which holds the entities"):
        bank.predict([("names", ("a", "b"))])


def same(said: Any, expected: Any) -> bool:
    """Whether two predictions, or lists of entities, are the same but for rounding."""
    if isinstance(said, list):
        places = [[(one.label, one.start, one.end, one.text) for one in entities] for entities in (said, expected)]
        return places[0] == places[1] and np.allclose([x.score for x in said], [x.score for x in expected], atol=1e-5)
    return said.label == expected.label and abs(said.score - expected.score) < 1e-5


def test_labels_and_entities_of_a_text_take_one_pass_through_the_layers_below(bert: Path) -> None:
    method, config = LoRA(r=2, layers="1"), EncoderConfig.from_folder(bert)
    models = tuple(SequenceClassifier(config, method, num_labels=8, reads=reads) for reads in ("example", "token"))
    trees = [flatten(model.shapes()) for model in models]

    def flops(*chosen: int) -> float:
        frozen = {path: leaf for k in chosen for path, leaf in trees[k].items() if "@" not in path}
        frozen = {path: leaf for path, leaf in frozen.items() if not path.startswith("classifier")}
        selected = [
            {path: jax.ShapeDtypeStruct((4, *x.shape), x.dtype) for path, x in trees[k].items() if path not in frozen}
            for k in chosen
        ]
        forward = jax.jit(functools.partial(forward_all, models=tuple(models[k] for k in chosen)))
        inputs = jax.eval_shape(lambda: blank(1, 16, 1))
        return forward.lower(frozen, (selected, inputs)).compile().cost_analysis()["flops"]

    both, apart = flops(0, 1), flops(0) + flops(1)
    lower = 2 * 16 * (4 * 128 * 128 + 2 * 128 * 64)
    assert both < apart - lower


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_adapter_whose_numbers_are_not_finite_is_refused(value: float, bert: Path, tmp_path: Path) -> None:
    bank, folder = AdapterBank(str(bert)), write_adapter(tmp_path / "a", bert, LoRA(r=2))
    tree, card = adapter.load(folder)
    tree["classifier"]["bias"][:] = value
    adapter.save(folder, tree, card)
    with pytest.raises(ValueError, match="a: classifier/bias: not finite; accepted: numbers"):
        bank.add("a", folder)
    assert bank.names == []


def test_what_a_bank_cannot_take_is_named_and_changes_nothing(
    mixed: tuple[AdapterBank, dict[str, Path]], tiny: Path, tmp_path: Path
) -> None:
    bank, folders = mixed
    foreign = write_adapter(tmp_path / "foreign", tiny, LoRA())
    with pytest.raises(ValueError, match="foreign: trained on .* with the fingerprint .*, not on the bank's encoder"):
        bank.add("lora-0", foreign)
    with pytest.raises(ValueError, match=r"nowhere/adapter.json: .*No such file"):
        bank.add("lora-0", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="adapter is 'adakron_1'; accepted: adakron-1, "):
        bank.predict([("adakron_1", TEXTS[0])])
    with pytest.raises(ValueError, match="adapter is 'spam'; accepted: one of 5 names"):
        bank.remove("spam")
    assert bank.names == sorted(folders)
    assert bank.predict([]) == []


def test_a_stack_grows_in_steps_and_keeps_what_it_holds(bert: Path, mixed: tuple[AdapterBank, dict[str, Path]]) -> None:
    bank, folders = mixed
    stack = bank.members["adakron-0"].stack
    before = bank.predict([("adakron-1", text) for text in TEXTS])
    capacity = stack.capacity
    stack.reserve(capacity + 3)
    assert stack.capacity == capacity + 3
    assert len(set(stack.free)) == len(stack.free) == capacity + 3 - len(PROBLEMS)
    assert bank.predict([("adakron-1", text) for text in TEXTS]) == before


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """What jax compiles meanwhile."""
    events: list[str] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.unregister_event_duration_listener(listen)
