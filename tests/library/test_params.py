"""Parameter trees: taken apart, joined, counted, and named as they are."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adakron_jax.architectures.config import BERT_BASE
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.methods import AdaKron, Full, Head
from adakron_jax.params import budget, count, flatten, graft, merge_params, refuse, split_params, unflatten
from adakron_jax.splice import is_trainable

KEYS = st.text("ab@_0", min_size=1, max_size=3)
TREES = st.dictionaries(
    KEYS,
    st.recursive(st.integers(), lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=8),
    max_size=4,
)


@st.composite
def trees_and_choices(draw: st.DrawFn) -> tuple[dict[str, Any], set[str]]:
    """A tree, and some of its leaves' paths."""
    tree = draw(TREES)
    paths = sorted(flatten(tree))
    return tree, draw(st.sets(st.sampled_from(paths))) if paths else set()


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def test_flatten_names_leaves_by_their_path():
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a/b": 1, "a/c/d": 2, "e": 3}


@settings(max_examples=30, deadline=None)
@given(TREES)
def test_unflatten_is_the_inverse_of_flatten(tree: dict[str, Any]):
    assert unflatten(flatten(tree)) == tree


@settings(max_examples=30, deadline=None)
@given(trees_and_choices())
def test_split_sends_each_leaf_where_the_rule_says(case: tuple[dict[str, Any], set[str]]):
    tree, chosen = case
    left, right = split_params(tree, lambda path: path in chosen)
    assert flatten(left) == {path: leaf for path, leaf in flatten(tree).items() if path in chosen}
    assert flatten(right) == {path: leaf for path, leaf in flatten(tree).items() if path not in chosen}


@settings(max_examples=30, deadline=None)
@given(trees_and_choices())
def test_merge_is_the_inverse_of_split(case: tuple[dict[str, Any], set[str]]):
    tree, chosen = case
    left, right = split_params(tree, lambda path: path in chosen)
    assert merge_params(left, right) == merge_params(right, left) == tree


def test_trees_that_share_leaves_are_not_merged():
    left, right = {"a": {"b": 1, "c": 2, "d": 3}}, {"a": {"c": 2, "d": 4}, "e": 5}
    with pytest.raises(ValueError, match="^in both trees: a/c, a/d$"):
        merge_params(left, right)


@pytest.mark.parametrize("turned", [False, True])
def test_a_leaf_is_not_lost_under_another_tree_s_branch(turned: bool):
    trees = [{"a": 1}, {"a": {"b": 2}}]
    with pytest.raises(ValueError, match="a"):
        merge_params(*(reversed(trees) if turned else trees))


def test_graft_builds_the_expected_tree_from_the_leaves():
    expected = {"a": {"b": zeros(2, 3)}, "c": zeros()}
    leaves = {"c": np.float32(1), "a/b": np.ones((2, 3))}
    grafted = graft(expected, leaves)
    assert grafted == {"a": {"b": leaves["a/b"]}, "c": leaves["c"]}
    assert grafted["a"]["b"] is leaves["a/b"]


def test_graft_lists_everything_that_does_not_fit_in_one_message():
    expected = {"a": zeros(1), "b": {"c": zeros(2), "d": zeros(3), "e": zeros(2, 3)}, "fits": zeros(4)}
    leaves = {"b/d": zeros(3, 1), "b/e": zeros(3, 2), "f": zeros(5), "g/h": zeros(), "fits": zeros(4)}
    with pytest.raises(ValueError, match="do not fit") as refusal:
        graft(expected, leaves)
    assert str(refusal.value) == (
        "the parameters do not fit: missing a (1,); missing b/c (2,); unexpected f (5,); unexpected g/h (); "
        "misshapen b/d (3, 1), expected (3,); misshapen b/e (3, 2), expected (2, 3)"
    )


def test_nothing_is_refused_without_a_problem():
    assert refuse([]) is None
    assert refuse(iter(())) is None


def test_count_is_the_number_of_elements():
    assert count({"a": zeros(2, 3), "b": {"c": zeros(4), "d": zeros(), "e": zeros(5, 0)}}) == 6 + 4 + 1
    assert count({}) == 0


def test_bert_base_with_adakron_trains_as_many_parameters_as_the_paper_says():
    counts = budget(SequenceClassifier(BERT_BASE, AdaKron((12, 4))).shapes(), is_trainable(AdaKron((12, 4))))
    assert counts == {
        "method": 599_232,
        "head": 768 * 2 + 2,
        "base": 109_482_240,
        "percent": pytest.approx(0.547, abs=5e-4),
    }


TINY_BERT = dataclasses.replace(
    BERT_BASE, vocab_size=7, hidden_size=4, num_layers=2, num_heads=2, intermediate_size=6, max_position_embeddings=5
)
TINY_ROBERTA = dataclasses.replace(TINY_BERT, model_type="roberta", type_vocab_size=1, pad_id=1, layer_norm_eps=1e-5)

ENCODER_TREE = {
    "encoder/embeddings/word/embedding": (7, 4),
    "encoder/embeddings/position/embedding": (5, 4),
    "encoder/embeddings/norm/scale": (4,),
    "encoder/embeddings/norm/bias": (4,),
} | {
    path: shape
    for i in range(2)
    for path, shape in {
        f"encoder/layers/{i}/attention/query/kernel": (4, 4),
        f"encoder/layers/{i}/attention/query/bias": (4,),
        f"encoder/layers/{i}/attention/key/kernel": (4, 4),
        f"encoder/layers/{i}/attention/key/bias": (4,),
        f"encoder/layers/{i}/attention/value/kernel": (4, 4),
        f"encoder/layers/{i}/attention/value/bias": (4,),
        f"encoder/layers/{i}/attention/dense/kernel": (4, 4),
        f"encoder/layers/{i}/attention/dense/bias": (4,),
        f"encoder/layers/{i}/attention_norm/scale": (4,),
        f"encoder/layers/{i}/attention_norm/bias": (4,),
        f"encoder/layers/{i}/ffn/hidden/kernel": (4, 6),
        f"encoder/layers/{i}/ffn/hidden/bias": (6,),
        f"encoder/layers/{i}/ffn/dense/kernel": (6, 4),
        f"encoder/layers/{i}/ffn/dense/bias": (4,),
        f"encoder/layers/{i}/ffn_norm/scale": (4,),
        f"encoder/layers/{i}/ffn_norm/bias": (4,),
    }.items()
}
BERT_TREE = {
    "encoder/embeddings/token_type/embedding": (2, 4),
    "pooler/kernel": (4, 4),
    "pooler/bias": (4,),
    "classifier/kernel": (4, 3),
    "classifier/bias": (3,),
}
ROBERTA_TREE = {
    "encoder/embeddings/token_type/embedding": (1, 4),
    "classifier/dense/kernel": (4, 4),
    "classifier/dense/bias": (4,),
    "classifier/out_proj/kernel": (4, 3),
    "classifier/out_proj/bias": (3,),
}


def adakron_tree(place: str) -> dict[str, tuple[int, ...]]:
    return {
        f"encoder/layers/{i}/{place}@adakron/{leaf}": shape
        for i in range(2)
        for leaf, shape in {
            "down_1/kernel": (4, 3),
            "down_1/bias": (3,),
            "down_2/kernel": (4, 2),
            "down_2/bias": (2,),
            "up/kernel": (6, 4),
            "up/bias": (4,),
        }.items()
    }


SEQUENTIAL, PFEIFFER = AdaKron((3, 2)), AdaKron((3, 2), "pfeiffer")


@pytest.mark.parametrize(
    ("config", "method", "expected"),
    [
        (TINY_BERT, Head(), ENCODER_TREE | BERT_TREE),
        (TINY_BERT, SEQUENTIAL, ENCODER_TREE | BERT_TREE | adakron_tree("ffn/ffn_dense")),
        (TINY_BERT, PFEIFFER, ENCODER_TREE | BERT_TREE | adakron_tree("ffn_output")),
        (TINY_ROBERTA, Head(), ENCODER_TREE | ROBERTA_TREE),
        (TINY_ROBERTA, SEQUENTIAL, ENCODER_TREE | ROBERTA_TREE | adakron_tree("ffn/ffn_dense")),
    ],
    ids=["bert", "bert with adakron", "bert with adakron as the paper draws it", "roberta", "roberta with adakron"],
)
def test_the_tree_of_a_classifier_is_this_one(config: Any, method: Any, expected: dict[str, tuple[int, ...]]):
    shapes = SequenceClassifier(config, method, num_labels=3).shapes()
    assert {path: leaf.shape for path, leaf in flatten(shapes).items()} == expected


@pytest.mark.parametrize(
    ("method", "learned", "left"),
    [
        (SEQUENTIAL, {*adakron_tree("ffn/ffn_dense"), "classifier/kernel", "classifier/bias"}, None),
        (Head(), {"classifier/kernel", "classifier/bias"}, None),
        (Full(), None, set()),
    ],
)
def test_a_method_s_leaves_and_the_head_learn(method: Any, learned: set[str] | None, left: set[str] | None):
    shapes = SequenceClassifier(TINY_BERT, method, num_labels=3).shapes()
    trainable, frozen = (set(flatten(tree)) for tree in split_params(shapes, is_trainable(method)))
    everything = set(flatten(shapes))
    assert trainable == (everything - left if left is not None else learned)
    assert frozen == (everything - learned if learned is not None else left)


def test_a_budget_counts_base_method_and_head_apart():
    shapes = SequenceClassifier(TINY_BERT, SEQUENTIAL, num_labels=3).shapes()
    base = (7 + 5 + 2) * 4 + 2 * 4 + 2 * (4 * (4 * 4 + 4) + (4 * 6 + 6) + (6 * 4 + 4) + 4 * 4) + 4 * 4 + 4
    adapters = 2 * (4 * 3 + 3 + 4 * 2 + 2 + 6 * 4 + 4)
    counts = {"head": 15, "base": base}
    assert budget(shapes, is_trainable(SEQUENTIAL)) == counts | {
        "method": adapters,
        "percent": pytest.approx(100 * adapters / base),
    }
    assert budget(shapes, lambda _: False) == counts | {"method": 0, "percent": 0}
    plain = SequenceClassifier(TINY_BERT, Full(), num_labels=3).shapes()
    assert budget(plain, is_trainable(Full())) == counts | {"method": base, "percent": 100}
