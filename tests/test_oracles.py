"""Agreement with numbers made by the authors' and peers' own code, at one fixed tolerance.

Runs every case in the folder that ADAKRON_ORACLES names, or the copies beside this file. A case of a method that is
not known here fails. If a number no longer agrees, the code computes something else: find the cause.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax import adapter, pretrained
from adakron_jax.config import EncoderConfig
from adakron_jax.encoder import Encoder, Packed, SequenceClassifier, padded
from adakron_jax.methods import AdaKron, Full, Head
from adakron_jax.params import flatten, graft, merge, split
from adakron_jax.splice import Method, is_trainable
from train import optim
from train.packing import Batch
from train.step import example_losses, init_state, train_step

FOLDER = Path(os.environ.get("ADAKRON_ORACLES", Path(__file__).parent / "oracles"))
CASES = sorted(path.parent.name for path in FOLDER.glob("*/case.json"))
assert CASES, f"no oracle cases in {FOLDER}"

# Name of a case's method -> ours, with its hyper-parameters.
METHODS: dict[str, Callable[[Mapping[str, Any]], Method]] = {
    "none": lambda fields: Head(),
    "full": lambda fields: Full(),
    "adakron": lambda fields: AdaKron((fields["r"] // fields["a"], fields["a"]), fields["placement"]),
}


class Case:
    """A case, loaded in the current float precision."""

    def __init__(self, name: str):
        folder = FOLDER / name
        said = json.loads((folder / "case.json").read_text())
        assert said["method"] in METHODS, f"the method {said['method']!r} of {name} is not known here"
        self.method = METHODS[said["method"]](said["hyperparameters"])
        self.config = EncoderConfig.from_folder(folder)
        self.model = SequenceClassifier(self.config, self.method, num_labels=said["num_labels"])
        shapes = self.model.shapes()
        read = adapter.read_tensors(folder / "adapter.safetensors")
        learned = adapter.from_tensors(read, list(flatten(shapes)), self.method, self.config)
        params = graft(shapes, pretrained.read(folder, self.config) | learned)
        self.params = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), params)
        self.inputs, self.outputs = np.load(folder / "inputs.npz"), np.load(folder / "outputs.npz")
        self.trajectory = folder / "trajectory.npz"
        self.names = set(said["trainable"])
        self.count = said["trainable_count"]

    def packed(self, arrays: Mapping[str, np.ndarray]) -> Packed:
        names = ("input_ids", "attention_mask", "token_type_ids")
        return padded(*(jnp.asarray(arrays[name], jnp.int32) for name in names))

    def forward(self, params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss, and with it the logits and the last hidden states."""
        labels = self.inputs["labels"]
        kind = jnp.result_type(float) if labels.dtype.kind == "f" else jnp.int32
        inputs = self.packed(self.inputs)
        logits = self.model.apply({"params": params}, inputs)
        hidden = Encoder(self.config, self.method).apply({"params": params["encoder"]}, inputs)
        loss = example_losses(logits[:, 0], jnp.asarray(labels, kind)).mean()
        return loss, {"logits": logits[:, 0], "hidden": hidden}

    @functools.cached_property
    def results(self) -> dict[str, Any]:
        """Loss, logits, hidden states and the gradient of every trainable tensor, under its canonical name."""
        trainable, frozen = split(self.params, is_trainable(self.method))
        differentiate = jax.jit(jax.value_and_grad(lambda tree: self.forward(merge(tree, frozen)), has_aux=True))
        (loss, seen), grads = differentiate(trainable)
        return {"loss": loss, "grads": self.tensors(grads)} | seen

    def tensors(self, tree: Any) -> dict[str, np.ndarray]:
        return adapter.to_tensors(flatten(tree), self.method, self.config)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_logits_loss_and_hidden_states(case: Case) -> None:
    results, there = case.results, case.inputs["attention_mask"] == 1
    np.testing.assert_allclose(results["logits"], case.outputs["logits"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(results["loss"], case.outputs["loss"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(results["hidden"][there], case.outputs["hidden"][there], rtol=0, atol=5e-5)


def test_every_gradient(case: Case) -> None:
    assert set(case.results["grads"]) == case.names
    for name, grad in case.results["grads"].items():
        theirs = case.outputs[f"grad/{name}"]
        np.testing.assert_allclose(grad, theirs, rtol=0, atol=2e-4 * np.abs(theirs).max() + 2e-6, err_msg=name)


def test_count_of_trainable_parameters(case: Case) -> None:
    shapes = split(case.model.shapes(), is_trainable(case.method))[0]
    assert sum(leaf.size for path, leaf in flatten(shapes).items() if not path.startswith("classifier/")) == case.count


@pytest.mark.parametrize("name", CASES)
def test_logits_and_loss_in_float64(name: str) -> None:
    with jax.enable_x64(True):
        case = Case(name)
        loss, seen = jax.jit(case.forward)(case.params)
        assert seen["logits"].dtype == jnp.float64
        np.testing.assert_allclose(seen["logits"], case.outputs["logits64"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(loss, case.outputs["loss64"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in CASES if (FOLDER / name / "trajectory.npz").is_file()])
def test_follows_the_trajectory_with_our_own_step(name: str) -> None:
    case = Case(name)
    theirs = np.load(case.trajectory)
    init = {key.removeprefix("init/"): theirs[key] for key in theirs.files if key.startswith("init/")}
    trainable, frozen = split(case.params, is_trainable(case.method))
    trainable = graft(trainable, adapter.from_tensors(init, list(flatten(trainable)), case.method, case.config))
    config = dataclasses.replace(case.config, hidden_dropout=0.0, attention_dropout=0.0, classifier_dropout=0.0)
    model = SequenceClassifier(config, case.method, num_labels=case.model.num_labels)
    schedule = optim.linear_schedule(1e-2, 25, 0.06)
    optimizer = optim.adamw(schedule, weight_decay=0.1)

    step = jax.jit(lambda *args: train_step(*args, model=model, optimizer=optimizer, schedule=schedule))
    state = init_state(jax.tree.map(jnp.asarray, trainable), optimizer, seed=0)
    for number in range(25):
        batch = {key.removeprefix("batch/"): theirs[key][number % 5] for key in theirs.files if "batch/" in key}
        inputs = jax.tree.map(lambda x: x[None], case.packed(batch))
        labels = jnp.asarray(batch["labels"], jnp.int32)[None, :, None]
        state, metrics = step(state, frozen, Batch(inputs, labels, jnp.ones(labels.shape)))
        np.testing.assert_allclose(metrics["learning_rate"], theirs["lr"][number], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(metrics["loss"], theirs["loss"][number], rtol=0, atol=2e-5)
        np.testing.assert_allclose(metrics["grad_norm"], theirs["grad_norm"][number], rtol=2e-5, atol=2e-5)
    for tensor, value in case.tensors(state.trainable).items():
        np.testing.assert_allclose(value, theirs[f"final/{tensor}"], rtol=0, atol=2e-5, err_msg=tensor)
