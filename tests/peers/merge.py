"""Merges adapters as their own program does, and writes the logits of the inputs. Runs in the peers' environment.

Lines of JSON: {to, folders, base, weights, head, seed, theirs, inputs, logits}.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lines import FLOAT, serve, write_logits


def of_peft(case: dict[str, Any], names: list[str]) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(case["base"], num_labels=3, **FLOAT)
    heads = [without_head(Path(folder)) for folder in case["folders"]]
    chosen = case["head"]
    weights = case["weights"] if chosen is None else [float(i == chosen) for i in range(len(names))]
    merged = {key: sum(w * h[key] for w, h in zip(weights, heads, strict=True)) / sum(weights) for key in heads[0]}
    assert not model.load_state_dict(merged, strict=False).unexpected_keys
    model = PeftModel.from_pretrained(model, case["folders"][0], names[0])
    for name, folder in zip(names[1:], case["folders"][1:], strict=True):
        model.load_adapter(folder, name)
    rng, density = np.random.default_rng(case["seed"]), case["theirs"].get("density")
    # The entries that our `dare` keeps: its matrices are the other way round.
    torch.bernoulli = lambda p: torch.tensor((rng.random(tuple(p.shape)[::-1]) < density).T, dtype=p.dtype)
    model.add_weighted_adapter(names, adapter_name="merged", **{"weights": case["weights"]} | case["theirs"])
    model.set_adapter("merged")
    return model


def without_head(folder: Path) -> dict[str, torch.Tensor]:
    """Takes the head out of a folder, as the program does not merge what has one; returns it."""
    from safetensors.torch import load_file, save_file

    tensors, path = load_file(folder / "adapter_model.safetensors"), folder / "adapter_config.json"
    head = {name: tensors.pop(name) for name in list(tensors) if ".classifier." in name}
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    path.write_text(json.dumps(json.loads(path.read_text()) | {"modules_to_save": None, "task_type": None}))
    return {name.removeprefix("base_model.model."): tensor for name, tensor in head.items()}


def of_adapterhub(case: dict[str, Any], names: list[str]) -> Any:
    import adapters

    model = adapters.AutoAdapterModel.from_pretrained(case["base"], **FLOAT)
    for name, folder in zip(names, case["folders"], strict=True):
        model.load_adapter(folder, load_as=name, use_safetensors=True)
    model.average_adapter("merged", names, weights=case["weights"], **case["theirs"])
    model.average_head("merged", names, weights=case["weights"])
    model.set_active_adapters("merged")
    model.active_head = "merged"
    return model


def main(case: dict[str, Any]) -> None:
    names = [f"adapter{i}" for i in range(len(case["folders"]))]
    model = {"peft": of_peft, "adapterhub": of_adapterhub}[case["to"]](case, names)
    write_logits(model, case["inputs"], case["logits"])


if __name__ == "__main__":
    serve(lambda line: main(json.loads(line)))
