"""Loads a folder as its own program does, and writes the logits of the inputs. Runs in the peers' environment.

python compare.py FORMAT FOLDER BASE INPUTS.npz LOGITS.npy
"""

import json
from pathlib import Path
from typing import Any

from lines import FLOAT, serve, write_logits


def said(folder: str, file: str) -> dict[str, Any]:
    return json.loads((Path(folder) / file).read_text())


def auto(of_tokens: bool) -> Any:
    """The class of transformers for classifiers of sequences, or of tokens."""
    from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

    return AutoModelForTokenClassification if of_tokens else AutoModelForSequenceClassification


def of_huggingface(folder: str, base: str) -> Any:
    from transformers import AutoTokenizer

    if (Path(base) / "tokenizer.json").is_file():  # an oracle's encoder has none
        AutoTokenizer.from_pretrained(folder)
    (kind,) = said(folder, "config.json")["architectures"]
    classifier = auto(kind.endswith("ForTokenClassification"))
    model, report = classifier.from_pretrained(folder, **FLOAT, output_loading_info=True)
    assert not any(report.values()), report
    return model


def of_peft(folder: str, base: str) -> Any:
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors.torch import load_file

    config = said(folder, "adapter_config.json")
    tensors = load_file(f"{folder}/adapter_model.safetensors")
    ends = ("classifier.weight", "classifier.out_proj.weight")
    (outputs,) = (len(tensor) for name, tensor in tensors.items() if name.endswith(ends))
    model = auto(config["task_type"] == "TOKEN_CLS").from_pretrained(base, num_labels=outputs, **FLOAT)
    model = PeftModel.from_pretrained(model, folder)
    saved = get_peft_model_state_dict(model)
    assert saved.keys() == tensors.keys() or config["peft_type"] == "PREFIX_TUNING", saved.keys() ^ tensors.keys()
    return model


def of_adapterhub(folder: str, base: str) -> Any:
    import adapters

    head = said(folder, "head_config.json")
    if head["config"] is None:
        of_tokens = head["model_class"].endswith("ForTokenClassification")
        model = auto(of_tokens).from_pretrained(base, num_labels=head["num_labels"], **FLOAT)
        adapters.init(model)
    else:
        model = adapters.AutoAdapterModel.from_pretrained(base, **FLOAT)
    name = model.load_adapter(folder, use_safetensors=True)
    model.set_active_adapters(name)
    return model


def main(form: str, folder: str, base: str, inputs: str, out: str) -> None:
    model = {"huggingface": of_huggingface, "peft": of_peft, "adapterhub": of_adapterhub}[form](folder, base)
    write_logits(model, inputs, out)


if __name__ == "__main__":
    serve(lambda line: main(*line.split()))
