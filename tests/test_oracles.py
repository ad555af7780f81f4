"""Agreement with numbers made by the authors' and peers' own code, at one fixed tolerance.

Runs every case in the folder that ADAKRON_ORACLES names, or the copies beside this file. A case of a method that is
not known here fails. If a number no longer agrees, the code computes something else: find the cause.
"""

import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax import adapter, methods
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.data.packing import Batch
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.encoder import Encoder
from adakron_jax.encoders.inputs import Packed, padded
from adakron_jax.encoders.sequence_classifier import SequenceClassifier
from adakron_jax.io import files
from adakron_jax.methods.updates.fourierft import places
from adakron_jax.methods.updates.lora import sizes
from adakron_jax.params import flatten, graft, merge_params, split_params
from adakron_jax.problems import KINDS
from adakron_jax.splice import Method, is_trainable
from tests.support.methods import nightly_but
from train.engine.steps import optim
from train.engine.steps.sharding import make_shardings
from train.engine.steps.step import init_state, train_step
from train.options.mesh import MeshShape

FOLDER = Path(os.environ.get("ADAKRON_ORACLES", Path(__file__).parent / "oracles"))
CASES = sorted(path.parent.name for path in FOLDER.glob("*/case.json"))
assert CASES, f"no oracle cases in {FOLDER}"
# Of the cases stored here float32 and every gradient tell of each change. At night so do float64, which tells a cause
# from rounding, the hidden states of all tokens under a method, and a method on an encoder that other cases tell apart.
STORED = "ADAKRON_ORACLES" not in os.environ
by_night = pytest.mark.nightly if STORED else (lambda test: test)
AGAIN = {"adakron-distilbert", "adakron-electra", "adakron-xlm-roberta", "pfeiffer-electra", "prefix-roberta"}
AGAIN |= {"base-camembert", "base-xlm-roberta"}


def daily(pattern: str) -> list[Any]:
    """The cases, of which those that do not match the pattern, or tell what others do, are for the night."""
    chosen = {name for name in CASES if re.match(pattern, name) and name not in AGAIN}
    return nightly_but(chosen if STORED else CASES, CASES)


# Name of a case's method -> ours, with its hyper-parameters.
METHODS: dict[str, Callable[[Mapping[str, Any], int], Method]] = {
    "none": lambda case, _: methods.Head(),
    "full": lambda case, _: methods.Full(),
    "bitfit": lambda case, _: methods.BitFit(),
    "adakron": lambda case, _: methods.AdaKron((case["r"] // case["a"], case["a"]), case["placement"]),
    "adamix": lambda case, _: methods.AdaMix(case["num_experts"], r=case["r"]),
    "pfeiffer": lambda case, _: methods.Pfeiffer(case["r"]),
    "houlsby": lambda case, _: methods.Houlsby(case["r"], "google" if case["train_layernorm"] else "adapterhub"),
    "compacter": lambda case, hidden: methods.Compacter(hidden // case["r"], case["phm_dim"], case["phm_rank"]),
    "compacter++": lambda case, hidden: methods.CompacterPlusPlus(
        hidden // case["r"], case["phm_dim"], case["phm_rank"]
    ),
    "ia3": lambda case, _: methods.IA3(),
    "hadamard": lambda case, _: methods.Hadamard(case["placement"]),
    "lora": lambda case, _: methods.LoRA(tuple(case["targets"]), case["r"], float(case["alpha"])),
    "dora": lambda case, _: methods.DoRA(tuple(case["targets"]), case["r"], float(case["alpha"])),
    "hira": lambda case, _: methods.HiRA(tuple(case["targets"]), case["r"]),
    "randlora": lambda case, _: methods.RandLoRA(tuple(case["targets"]), case["r"], float(case["alpha"])),
    "vblora": lambda case, _: methods.VBLoRA(
        tuple(case["targets"]), case["r"], case["num_vectors"], case["vector_length"], case["topk"]
    ),
    "miss": lambda case, _: methods.MiSS(tuple(case["targets"]), case["r"]),
    "vera": lambda case, _: methods.VeRA(tuple(case["targets"]), case["r"]),
    "krona": lambda case, _: methods.KronA(tuple(case["targets"]), tuple(case["a_shape"]), case["scale"]),
    "lokr": lambda case, _: METHODS["krona"](case, _),
    "ln_tuning": lambda case, _: methods.LNTuning(),
    "fourierft": lambda case, _: methods.FourierFT(
        tuple(case["targets"]), case["n_frequency"], case["scaling"], case["random_loc_seed"]
    ),
    "c3a": lambda case, _: methods.C3A(tuple(case["targets"]), case["block_size"]),
    "loreft": lambda case, _: methods.LoReFT(case["r"], case["prefix_positions"], case["suffix_positions"]),
    "oft": lambda case, _: methods.OFT(
        tuple(case["targets"]), case["block_size"], case["cayley"], case.get("neumann_terms", 5)
    ),
    "prefix": lambda case, _: methods.Prefix(case["length"], case["mlp"], case.get("mid", 1)),
    "unipelt": lambda case, _: methods.UniPELT(
        ("adapter", "prefix", "lora") if case["lora"] else ("adapter", "prefix"),
        r=case["r"],
        length=case["length"],
        mid=case["mid"],
        lora_r=case.get("lora_r", 1),
    ),
}


def tensors_of(folder: Path, method: Method, config: EncoderConfig) -> dict[str, np.ndarray]:
    """The tensors of a case's adapter, less what its method draws anew, if that is the same."""
    tensors = files.read_tensors(folder / "adapter.safetensors")
    for name in [name for name in tensors if name.endswith(".frequencies")]:
        assert isinstance(method, methods.FourierFT)
        drawn = places(sizes(name.split(".")[1], config), method.n_frequency, method.seed)
        np.testing.assert_array_equal(tensors.pop(name), drawn)
    return tensors


class Case:
    """A case, loaded in the current float precision."""

    def __init__(self, name: str):
        folder = FOLDER / name
        said = json.loads((folder / "case.json").read_text())
        assert said["method"] in METHODS, f"the method {said['method']!r} of {name} is not known here"
        self.config = EncoderConfig.from_folder(folder)
        self.method = METHODS[said["method"]](said["hyperparameters"], self.config.hidden_size)
        self.kind = said["problem"]
        self.of_tokens = KINDS[self.kind].reads == "token"
        self.model = SequenceClassifier(
            self.config, self.method, num_labels=said["num_labels"], reads=KINDS[self.kind].reads
        )
        shapes = self.model.shapes()
        read = tensors_of(folder, self.method, self.config)
        learned = adapter.from_tensors(read, list(flatten(shapes)), self.method, self.config)
        params = self.model.assemble(pretrained.read(folder, self.config), learned)
        self.params = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), params)
        self.inputs, self.outputs = np.load(folder / "inputs.npz"), np.load(folder / "outputs.npz")
        self.arrays = dict(self.inputs)
        self.trained, self.training = self.model, {}
        if "expert_choices" in self.arrays:
            self.trained = no_dropout(self.model)
            self.training = {"deterministic": False, "rngs": {"dropout": jax.random.key(0)}}
        self.trajectory = folder / "trajectory.npz"
        self.names = set(said["trainable"])
        self.count = said["trainable_count"]

    def packed(self, arrays: Mapping[str, np.ndarray]) -> Packed:
        names = ("input_ids", "attention_mask", "token_type_ids")
        return padded(*(jnp.asarray(arrays[name], jnp.int32) for name in names))

    def labels(self, arrays: Mapping[str, np.ndarray]) -> jax.Array:
        """Codes of classes, of tokens below 0 where there is none, or numbers of a regression."""
        return jnp.asarray(arrays["labels"], jnp.result_type(float) if self.kind == "regression" else jnp.int32)

    def forward(self, params: Any, arrays: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        """The loss and the logits, of the case's inputs; in training, if the case gives its draws."""
        inputs = self.packed(arrays)

        def logits_of_pass() -> jax.Array:
            logits = self.trained.apply({"params": params}, inputs, **self.training)
            return logits if self.of_tokens else logits[:, 0]

        with self.chosen_experts():
            logits, labels = logits_of_pass(), self.labels(arrays)
            loss = KINDS[self.kind].losses(logits, labels)
            loss += self.method.extra_losses(logits, logits_of_pass) if self.training else 0.0
        return loss.mean(where=labels >= 0 if self.of_tokens else None), logits

    def hidden(self, params: Any, arrays: Mapping[str, Any]) -> jax.Array:
        """The last hidden states of all tokens; the classifier's pass has those of the first ones alone."""
        with self.chosen_experts(from_pass=-1):
            encoder = Encoder(self.trained.config, self.method)
            return encoder.apply({"params": params["encoder"]}, self.packed(arrays), **self.training)

    @contextmanager
    def chosen_experts(self, from_pass: int = 0) -> Iterator[None]:
        """Lets the case's choices [pass, layer], if it has any, be drawn in this order: each layer is traced anew."""
        if "expert_choices" not in self.inputs:
            yield
            return
        choices = self.inputs["expert_choices"][from_pass:].ravel()
        with jax.disable_jit(), mock.patch("adakron_jax.methods.adamix.draw", side_effect=choices):
            yield

    @functools.cached_property
    def results(self) -> dict[str, Any]:
        """Loss, logits and the gradient of every trainable tensor, under its canonical name."""
        trainable, frozen = split_params(self.params, is_trainable(self.method))

        @jax.jit  # with arguments, not constants, which would be computed with while compiling
        def results(trainable: Any, frozen: Any, arrays: Any) -> Any:
            differentiate = jax.value_and_grad(
                lambda tree: self.forward(merge_params(tree, frozen), arrays), has_aux=True
            )
            return differentiate(trainable)

        (loss, logits), grads = results(trainable, frozen, self.arrays)
        return {"loss": loss, "logits": logits, "grads": self.tensors(grads)}

    def tensors(self, tree: Any) -> dict[str, np.ndarray]:
        return adapter.to_tensors(flatten(tree), self.method, self.config)


def no_dropout(model: SequenceClassifier) -> SequenceClassifier:
    rates = dict.fromkeys(("hidden_dropout", "attention_dropout", "classifier_dropout"), 0.0)
    return model.clone(config=dataclasses.replace(model.config, **rates))


@pytest.fixture(scope="module", params=daily(""))
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_logits_and_loss(case: Case) -> None:
    results = case.results
    real = case.inputs["attention_mask"] == 1 if case.of_tokens else slice(None)
    np.testing.assert_allclose(results["logits"][real], case.outputs["logits"][real], rtol=0, atol=2e-5)
    np.testing.assert_allclose(results["loss"], case.outputs["loss"], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("case", daily("(tokens-)?(base|adakron)"), indirect=True)
def test_hidden_states_of_all_tokens(case: Case) -> None:
    there = case.inputs["attention_mask"] == 1
    hidden = case.outputs["hidden_2" if "hidden_2" in case.outputs else "hidden"]
    np.testing.assert_allclose(jax.jit(case.hidden)(case.params, case.arrays)[there], hidden[there], rtol=0, atol=5e-5)


def test_every_gradient(case: Case) -> None:
    assert set(case.results["grads"]) == case.names
    for name, grad in case.results["grads"].items():
        theirs = case.outputs[f"grad/{name}"]
        np.testing.assert_allclose(grad, theirs, rtol=0, atol=2e-4 * np.abs(theirs).max() + 2e-6, err_msg=name)


def test_count_of_trainable_parameters(case: Case) -> None:
    shapes = split_params(case.model.shapes(), is_trainable(case.method))[0]
    assert sum(leaf.size for path, leaf in flatten(shapes).items() if not path.startswith("classifier/")) == case.count


@by_night
@pytest.mark.parametrize("name", CASES)
def test_logits_and_loss_in_float64(name: str) -> None:
    with jax.enable_x64(True):
        case = Case(name)
        loss, logits = jax.jit(case.forward)(case.params, case.arrays)
        assert logits.dtype == jnp.float64
        real = case.inputs["attention_mask"] == 1 if case.of_tokens else slice(None)
        np.testing.assert_allclose(logits[real], case.outputs["logits64"][real], rtol=0, atol=1e-9)
        # The reference code computes AdaMix's consistency loss in float32 even then.
        atol = 1e-7 if "expert_choices" in case.inputs else 1e-9
        np.testing.assert_allclose(loss, case.outputs["loss64"], rtol=0, atol=atol)


@pytest.mark.parametrize("name", [name for name in CASES if (FOLDER / name / "trajectory.npz").is_file()])
def test_follows_the_trajectory_with_our_own_step(name: str) -> None:
    case = Case(name)
    theirs = np.load(case.trajectory)
    init = {key.removeprefix("init/"): theirs[key] for key in theirs.files if key.startswith("init/")}
    trainable, frozen = split_params(case.params, is_trainable(case.method))
    trainable = graft(trainable, adapter.from_tensors(init, list(flatten(trainable)), case.method, case.config))
    model = no_dropout(case.model)
    schedule = optim.linear_schedule(1e-2, 25, 0.06)
    optimizer = optim.adamw(weight_decay=0.1)

    alone = make_shardings(MeshShape(), case.config)
    constants = {"model": model, "losses_of": KINDS[case.kind].losses, "optimizer": optimizer, "shardings": alone}
    step = jax.jit(lambda *args: train_step(*args, **constants))
    state = init_state(jax.tree.map(jnp.asarray, trainable), optimizer, schedule, seed=0)
    for number in range(25):
        batch = {key.removeprefix("batch/"): theirs[key][number % 5] for key in theirs.files if "batch/" in key}
        inputs = jax.tree.map(lambda x: x[None], case.packed(batch))
        labels = case.labels(batch)[None, :, None]
        state, metrics = step(state, frozen, Batch(inputs, labels, jnp.ones(labels.shape)))
        np.testing.assert_allclose(metrics["learning_rate"], theirs["lr"][number], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(metrics["loss"], theirs["loss"][number], rtol=1e-5, atol=2e-5)
        np.testing.assert_allclose(metrics["grad_norm"], theirs["grad_norm"][number], rtol=2e-5, atol=2e-5)
    for tensor, value in case.tensors(state.trainable).items():
        np.testing.assert_allclose(value, theirs[f"final/{tensor}"], rtol=0, atol=2e-5, err_msg=tensor)
