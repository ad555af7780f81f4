"""Loads a folder as its own program does, and writes the logits of the inputs. Runs in the peers' environment.

python compare.py FORMAT FOLDER BASE INPUTS.npz LOGITS.npy
"""

import sys
from typing import Any

import numpy as np
import torch

FLOAT = {"torch_dtype": torch.float32}


def of_huggingface(folder: str, base: str) -> Any:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    AutoTokenizer.from_pretrained(folder)
    model, report = AutoModelForSequenceClassification.from_pretrained(folder, **FLOAT, output_loading_info=True)
    assert not any(report.values()), report
    return model


def of_peft(folder: str, base: str) -> Any:
    import json
    from pathlib import Path

    from peft import PeftModel, get_peft_model_state_dict
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    tensors = load_file(f"{folder}/adapter_model.safetensors")
    ends = ("classifier.weight", "classifier.out_proj.weight")
    (outputs,) = (len(tensor) for name, tensor in tensors.items() if name.endswith(ends))
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=outputs, **FLOAT)
    model = PeftModel.from_pretrained(model, folder)
    said = json.loads((Path(folder) / "adapter_config.json").read_text())
    saved = get_peft_model_state_dict(model)
    assert saved.keys() == tensors.keys() or said["peft_type"] == "PREFIX_TUNING", saved.keys() ^ tensors.keys()
    return model


def of_adapterhub(folder: str, base: str) -> Any:
    import json
    from pathlib import Path

    import adapters
    from transformers import AutoModelForSequenceClassification

    head = json.loads((Path(folder) / "head_config.json").read_text())
    if head["config"] is None:
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=head["num_labels"], **FLOAT)
        adapters.init(model)
    else:
        model = adapters.AutoAdapterModel.from_pretrained(base, **FLOAT)
    name = model.load_adapter(folder, use_safetensors=True)
    model.set_active_adapters(name)
    return model


def main(form: str, folder: str, base: str, inputs: str, out: str) -> None:
    model = {"huggingface": of_huggingface, "peft": of_peft, "adapterhub": of_adapterhub}[form](folder, base).eval()
    arrays = np.load(inputs)
    with torch.no_grad():
        logits = model(**{name: torch.tensor(arrays[name]) for name in arrays.files}).logits
    np.save(out, logits.numpy())


if __name__ == "__main__":
    for line in sys.stdin:
        try:
            main(*line.split())
            print("done", flush=True)
        except Exception as error:  # whatever it is, the next case goes on
            print("failed", repr(error), flush=True)
