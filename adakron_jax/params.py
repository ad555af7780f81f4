"""Parameter trees: plain nested dicts, named by paths such as `encoder/layers/3/ffn/dense/kernel`."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flax import traverse_util

from adakron_jax.splice import Method, is_added, is_trainable

Tree = dict[str, Any]
_TOP = re.compile(r"^(?:[^/]+/)*?(?=(?:encoder|pooler|classifier)/)")  # what precedes a classifier's tree
# Which leaves train: those of a method, or those whose path satisfies a predicate.
Rule = Method | Callable[[str], bool]


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a tree to path -> leaf."""
    return traverse_util.flatten_dict(tree, sep="/")


def unflatten(leaves: Mapping[str, Any]) -> Tree:
    """Inverts `flatten`."""
    return traverse_util.unflatten_dict(dict(leaves), sep="/")


def split_params(params: Mapping[str, Any], rule: Rule) -> tuple[Tree, Tree]:
    """Splits a tree into (trainable, frozen); `merge_params` is its inverse.

    >>> trainable, frozen = split_params({"dense": {"kernel": 1, "bias": 2}}, lambda path: path.endswith("bias"))
    >>> trainable
    {'dense': {'bias': 2}}
    >>> frozen
    {'dense': {'kernel': 1}}

    Args:
      rule: a method, or a predicate that says whether the leaf at a path trains.
    """
    trains = predicate(rule)
    trainable, frozen = {}, {}
    for path, leaf in flatten(params).items():
        (trainable if trains(path) else frozen)[path] = leaf
    return unflatten(trainable), unflatten(frozen)


def predicate(rule: Rule) -> Callable[[str], bool]:
    """Returns a function that says whether the leaf at a path trains; a method's rule reads paths in a classifier."""
    if not isinstance(rule, Method):
        return rule
    trains = is_trainable(rule)
    return lambda path: trains(_TOP.sub("", path))


def param_labels(params: Mapping[str, Any], rule: Rule) -> Tree:
    """Returns the tree with `trainable` or `frozen` for every leaf, as `optax.multi_transform` takes it.

    >>> param_labels({"dense": {"kernel": 1, "bias": 2}}, lambda path: path.endswith("bias"))
    {'dense': {'kernel': 'frozen', 'bias': 'trainable'}}

    The training program differentiates the trainable tree alone. A gradient of the whole tree would be computed and
    kept for every frozen matrix, only to be thrown away: two thirds of the backward pass's work, and as much memory as
    the encoder's weights.

    Args:
      rule: a method, or a predicate that says whether the leaf at a path trains.
    """
    trains = predicate(rule)
    return unflatten({path: "trainable" if trains(path) else "frozen" for path in flatten(params)})


def merge_params(trainable: Mapping[str, Any], frozen: Mapping[str, Any]) -> Tree:
    """Joins two trees that share no leaf.

    >>> merge_params({"dense": {"bias": 2}}, {"dense": {"kernel": 1}})
    {'dense': {'bias': 2, 'kernel': 1}}

    Raises:
      ValueError: both hold the same leaf, or one holds a leaf where the other has a branch.
    """
    left, right = flatten(trainable), flatten(frozen)
    if both := left.keys() & (right.keys() | _branches(right)) | right.keys() & _branches(left):
        raise ValueError(f"in both trees: {', '.join(sorted(both))}")
    return unflatten(left | right)


def _branches(leaves: Iterable[str]) -> set[str]:
    """Returns every path above the leaves' paths."""
    return {path[:end] for path in leaves for end, letter in enumerate(path) if letter == "/"}


def graft(expected: Mapping[str, Any], leaves: Mapping[str, Any]) -> Tree:
    """Builds the tree `expected` (of arrays or their shapes) from `leaves`, a dict of path -> array.

    Raises:
      ValueError: leaves are missing, unexpected or of another shape; all of them are listed.
    """
    shapes = {path: tuple(leaf.shape) for path, leaf in flatten(expected).items()}
    problems = [f"missing {path} {shapes[path]}" for path in sorted(shapes.keys() - leaves.keys())]
    problems += [f"unexpected {path} {tuple(leaves[path].shape)}" for path in sorted(leaves.keys() - shapes.keys())]
    problems += [
        f"misshapen {path} {tuple(leaves[path].shape)}, expected {shapes[path]}"
        for path in sorted(shapes.keys() & leaves.keys())
        if tuple(leaves[path].shape) != shapes[path]
    ]
    refuse(problems)
    return unflatten({path: leaves[path] for path in shapes})


def refuse(problems: Iterable[str], where: object = "") -> None:
    """Raises ValueError with all problems, if there are any; `where` is the file that they are in."""
    if problems := list(problems):
        raise ValueError(f"{f'{where}: ' if where else ''}the parameters do not fit: {'; '.join(problems)}")


def count(tree: Mapping[str, Any]) -> int:
    """Returns the number of parameters of a tree of arrays or of shapes."""
    return sum(math.prod(leaf.shape) for leaf in flatten(tree).values())


def budget(params: Mapping[str, Any], trains: Callable[[str], bool]) -> dict[str, Any]:
    """Counts parameters by role: {method, head, base, percent}.

    `method` is what is trained besides the head, `base` is the pretrained encoder, and `percent` is `method` as a share
    of `base`, the convention of the paper's Tables 1 and 3.
    """
    leaves = flatten(params)
    head = {path: leaf for path, leaf in leaves.items() if path.startswith("classifier/")}
    base = {path: leaf for path, leaf in leaves.items() if path not in head and not is_added(path)}
    method = {path: leaf for path, leaf in leaves.items() if path not in head and trains(path)}
    counts = {name: count(part) for name, part in (("method", method), ("head", head), ("base", base))}
    return counts | {"percent": 100 * counts["method"] / counts["base"]}
