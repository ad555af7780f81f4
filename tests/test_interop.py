"""Adapters as the peers save them, with the logits that the peers compute: import gives the same numbers.

Runs every case in the folder that ADAKRON_INTEROP names, or the copies beside this file. If a number no longer agrees,
the code computes something else: find the cause.
"""

import functools
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adakron_jax import adapter, methods
from adakron_jax.adapter import Card
from adakron_jax.architectures.config import EncoderConfig
from adakron_jax.encoders import pretrained
from adakron_jax.encoders.inputs import Packed, padded
from adakron_jax.interop.adapterhub import folder as adapterhub
from adakron_jax.interop.convert import export_adapter, import_adapter
from adakron_jax.interop.peft import folder as peft
from adakron_jax.params import flatten

FOLDER = Path(os.environ.get("ADAKRON_INTEROP", Path(__file__).parent / "interop"))
ALL = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*/case.json"))}
PROMPTS = sorted(name for name, said in ALL.items() if said["method"] == "prompt")
CASES = sorted(ALL.keys() - set(PROMPTS))
assert CASES, f"no cases in {FOLDER}"


@functools.cache
def base_of(name: str) -> tuple[EncoderConfig, dict[str, np.ndarray]]:
    config = EncoderConfig.from_folder(FOLDER / name)
    return config, pretrained.read(FOLDER / name, config)


@pytest.fixture(scope="module", params=CASES)
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Card]:
    """A case's name, the portable adapter made of it, and its card."""
    name, out = request.param, tmp_path_factory.mktemp(request.param) / "adapter"
    return name, out, import_adapter(FOLDER / name / "adapter", str(FOLDER / ALL[name]["base"]), out)


def inputs_of(name: str) -> Packed:
    arrays = np.load(FOLDER / name / "inputs.npz")
    ids = arrays["input_ids"]
    types = arrays["token_type_ids"] if "token_type_ids" in arrays.files else np.zeros_like(ids)
    return padded(*(jnp.asarray(x, jnp.int32) for x in (ids, arrays["attention_mask"], types)))


def logits_of(name: str, folder: Path) -> np.ndarray:
    """The logits of a portable adapter on the case's inputs, in the current float precision."""
    model, params, _ = adapter.attach(folder, base_of(ALL[name]["base"])[1])
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), params)
    logits = jax.jit(lambda params, inputs: model.apply({"params": params}, inputs))(params, inputs_of(name))
    return real(name, logits) if model.reads == "token" else np.asarray(logits[:, 0])


def real(name: str, logits: Any) -> np.ndarray:
    """Logits without those of padding, where each token has some."""
    if ALL[name].get("problem") != "tokens":
        return logits
    return np.asarray(logits)[np.load(FOLDER / name / "inputs.npz")["attention_mask"] == 1]


def test_logits(imported: tuple[str, Path, Card]) -> None:
    name, folder, card = imported
    assert card.problem.outputs == ALL[name]["num_labels"]
    assert (card.problem.name == "tokens") == (ALL[name].get("problem") == "tokens")
    outputs = np.load(FOLDER / name / "outputs.npz")
    np.testing.assert_allclose(logits_of(name, folder), real(name, outputs["logits"]), rtol=0, atol=2e-5)


@(lambda test: test) if "ADAKRON_INTEROP" in os.environ else pytest.mark.nightly
def test_logits_in_float64(imported: tuple[str, Path, Card]) -> None:
    name, folder, _ = imported
    with jax.enable_x64(True):
        logits = logits_of(name, folder)
    assert logits.dtype == np.float64
    expected = real(name, np.load(FOLDER / name / "outputs.npz")["logits64"])
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-9)


def test_label_names_come_along(imported: tuple[str, Path, Card]) -> None:
    name, _, card = imported
    if ALL[name]["peer"] == "adapters" and card.problem.labels:
        said = json.loads((FOLDER / name / "adapter" / "head_config.json").read_text(encoding="utf-8"))
        label2id = said["label2id"] if said["config"] is None else said["config"]["label2id"]
        assert dict(zip(card.problem.labels, range(len(label2id)), strict=True)) == label2id


def test_out_and_in_again_is_the_same_bit_for_bit(imported: tuple[str, Path, Card], tmp_path: Path) -> None:
    name, folder, card = imported
    to = {"peft": "peft", "adapters": "adapterhub"}[ALL[name]["peer"]]
    export_adapter(str(folder), to, tmp_path / "out")
    again = import_adapter(tmp_path / "out", card.base, tmp_path / "again")
    assert again == card
    first, second = (flatten(adapter.load(path)[0]) for path in (folder, tmp_path / "again"))
    assert first.keys() == second.keys()
    for path, leaf in first.items():
        np.testing.assert_array_equal(second[path].view(np.uint32), leaf.view(np.uint32), err_msg=path)


@pytest.mark.skipif("ADAKRON_INTEROP" in os.environ, reason="other cases may say the same in other words")
def test_what_goes_out_is_what_the_peer_wrote(imported: tuple[str, Path, Card]) -> None:
    """The same tensors under the same names, but for AdapterHub's name of the adapter and what it never uses."""
    name, folder, card = imported
    tree = flatten(adapter.load(folder)[0])
    theirs = files_of(FOLDER / name / "adapter")
    if ALL[name]["peer"] == "peft":
        ours = files_of_bytes(peft.write(card, tree))
    else:
        ours = files_of_bytes(adapterhub.write(card, tree))
        own = json.loads((FOLDER / name / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))["name"]
        # Copies of a prefix, and LoReFT's unit for no tokens.
        unused = (".prefix_tuning.pool.", *([".units.1."] if card.method == methods.LoReFT(2) else []))
        theirs = {
            key.replace(f".{own}.", ".adapter."): x
            for key, x in theirs.items()
            if not any(part in key for part in unused)
        }
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        np.testing.assert_array_equal(ours[key], tensor, err_msg=key)


def files_of(folder: Path) -> dict[str, Any]:
    return files_of_bytes({path.name: path.read_bytes() for path in folder.iterdir()})


def files_of_bytes(files: dict[str, bytes]) -> dict[str, Any]:
    from safetensors.numpy import load

    return {
        key: x for name, contents in files.items() if name.endswith(".safetensors") for key, x in load(contents).items()
    }


@pytest.mark.parametrize("name", PROMPTS)
def test_prompt_tuning_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="peft_type is 'PROMPT_TUNING', which is not supported; accepted: LORA"):
        import_adapter(FOLDER / name / "adapter", str(FOLDER / ALL[name]["base"]), tmp_path)
