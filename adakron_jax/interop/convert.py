"""Conversion of adapters between formats, for `import` and `export`."""

import dataclasses
import importlib.util
import shlex
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from adakron_jax import adapter, problems
from adakron_jax.adapter import Card
from adakron_jax.architectures.paths import POOLER
from adakron_jax.encoders import pretrained
from adakron_jax.hub.adapters import locate_adapter
from adakron_jax.hub.cards import model_card
from adakron_jax.hub.models import locate
from adakron_jax.interop import authors, huggingface
from adakron_jax.interop.adapterhub import folder as adapterhub
from adakron_jax.interop.heads import CLASSES, Base, unwrapped, with_unit_fused
from adakron_jax.interop.peft import folder as peft
from adakron_jax.io.files import read_json, write_whole
from adakron_jax.params import flatten, graft
from adakron_jax.problems import Problem

_SHOWN = 20  # labels in a line
# A field that every adapter_config.json of a program has -> the program.
_MARKS = {"peft_type": "peft", "model_class": "adapterhub"}
_OF_ADAPTERS = {"peft": peft, "adapterhub": adapterhub, "authors": authors}  # formats that hold the adapter alone
FORMATS = ("huggingface", *_OF_ADAPTERS, "onnx")


def format_of(folder: Path) -> str:
    """Returns which program wrote a folder; ValueError if it is not a known one."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    if (description := folder / peft.CONFIG).is_file():  # AdapterHub uses this name too
        said = read_json(description)
        if kind := next((to for field, to in _MARKS.items() if field in said), None):
            return kind
        raise ValueError(f"{description} has no {' and no '.join(_MARKS)}; accepted: peft's, AdapterHub's")
    weights, pickled = huggingface.WEIGHTS, huggingface.PICKLED
    if any((folder / file).is_file() for file in (weights, f"{weights}.index.json", pickled)):
        return "authors" if authors.is_authors(unwrapped(folder, weights, pickled)) else "huggingface"
    raise ValueError(
        f"{folder}: neither adapter_config.json nor model.safetensors; accepted: a folder of peft's, of AdapterHub's, "
        "or a Hugging Face classifier"
    )


def import_adapter(
    folder: Path,
    model: str,
    out: Path,
    labels: Sequence[str] = (),
    problem: str = "",
    warn: Callable[[str], object] = warnings.warn,
) -> Card:
    """Reads another program's adapter or classifier, and writes it as a portable adapter.

    Args:
      folder: the folder that the other program saved.
      model: the encoder it was trained on, as in `locate`.
      out: the folder to write.
      labels, problem: what the head predicts, if the folder does not say it.
      warn: called with one line if the folder names another encoder.

    Raises:
      ValueError: something in the folder is damaged, not supported, or does not fit the encoder.
    """
    kind = format_of(folder)
    base = Base.read(locate(model), problem)
    read = (_OF_ADAPTERS | {"huggingface": huggingface})[kind].read(folder, base)
    if not _same_name(read.trained_on, model, base):
        alike = "their shapes agree, which does not tell whether they are the same encoder"
        warn(f"{folder} names {read.trained_on} as its base, and {model} is given: {alike}")
    card = Card(
        method=read.method,
        task=f"imported from {kind}",
        problem=_as_told(read.problem, labels, problem),
        base=model,
        fingerprint=base.fingerprint,
        encoder=base.config,
        scores={},
        max_length=base.config.max_length - read.method.first_position,
        pooling=read.pooling,
        head=read.head,
    )
    missing = flatten(card.classifier().shapes()).keys() - base.leaves.keys() - read.leaves.keys()
    if any(path.startswith(f"{POOLER}/") for path in missing):
        raise ValueError(f"{model} has no pooler, which the head of {folder} reads; accepted: an encoder with one")
    adapter.save(out, graft(adapter.portable_shapes(card), read.leaves), card)
    return card


def _as_told(read: Problem, labels: Sequence[str], kind: str) -> Problem:
    """Returns the problem with the user's labels and kind; ValueError if they are not valid for the head."""
    if not labels and not kind:
        return read
    asked = problems.kind_of(kind or read.name)
    if asked.reads != read.reads:
        of_same = ", ".join(name for name, kind in problems.KINDS.items() if kind.reads == read.reads)
        raise ValueError(f"problem is {asked.name!r}; accepted: {of_same}, which have logits per {read.reads}")
    told = asked(tuple(labels)) if labels else asked.of_count(read.outputs)
    if not labels and told.labels:
        told = asked(read.output_names)
    if told.outputs != read.outputs:
        raise ValueError(f"problem is {told.described()}; accepted: one of {read.outputs} outputs, as the head has")
    return told


def _same_name(recorded: str, model: str, base: Base) -> bool:
    """Returns whether a folder's name for its base may be the given encoder's, comparing the last parts."""
    known = (model, str(locate(model)), str(base.said.get("_name_or_path") or ""))
    return not recorded or Path(recorded).name.lower() in {Path(name).name.lower() for name in known if name}


def export_adapter(
    run: str,
    to: str,
    out: Path,
    model: str | None = None,
    note: Callable[[str], object] = lambda line: None,
    quantize: str = "",
) -> list[str]:
    """Writes an adapter for another program; each file is written whole or not at all.

    Args:
      run: as in `locate_adapter`.
      to: one of FORMATS.
      out: the folder to write, which must hold nothing else.
      model: the location of the encoder, if it is not where the adapter says.
      note: called with one line on what the format does not hold.
      quantize: for `onnx`, a second, smaller model: `int8`.

    Returns:
      The names of the files.

    Raises:
      ValueError: the format has no equivalent of the method or the head, or the encoder is another one.
    """
    if to not in FORMATS:
        raise ValueError(f"--to is {to!r}; accepted: {', '.join(FORMATS)}")
    if quantize and to != "onnx":
        raise ValueError(f"--quantize {quantize} is for --to onnx, not for --to {to}")
    folder = locate_adapter(run)
    tree, card = adapter.load(folder)
    card = dataclasses.replace(card, base=model or card.base)
    if to in _OF_ADAPTERS:
        files = _OF_ADAPTERS[to].write(card, with_unit_fused(flatten(tree), card.problem))
    else:
        files = _whole(folder, card, to, quantize)
    lost = not_held(to, card.problem)
    trained_in = Path(run) if folder != Path(run) else None
    said = "\n\n".join(filter(None, (_use(to, card, out.name), lost)))
    files["README.md"] = model_card(card, out.name, said, trained_in).encode()
    if others := sorted({path.name for path in out.glob("*")} - files.keys()):
        raise ValueError(
            f"{out} holds {others[0]} already; accepted: a folder that is new, empty, or of an earlier export"
        )
    out.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        write_whole(out / name, contents)
    if lost:
        note(lost)
    return sorted(files)


def not_held(to: str, problem: Problem) -> str:
    """Returns a line on what a format does not hold of a problem, and how to tell `import`; empty if it holds all."""
    if to not in ("peft", "authors") or problem.outputs == 1 and not problem.labels:
        return ""
    names = " ".join(shlex.quote(label) for label in problem.labels[:_SHOWN]) + " ..." * (len(problem.labels) > _SHOWN)
    return (
        f"the format {to} holds neither label names nor the kind of problem; import it with --problem {problem.name} "
        f"--labels {names}"
    )


def _use(to: str, card: Card, name: str) -> str:
    """Returns how to use what was exported, in Markdown."""
    base, of_tokens, kind = card.base, card.problem.reads == "token", CLASSES[card.problem.reads]
    task = 'token-classification", aggregation_strategy="simple' if of_tokens else "text-classification"
    code = {
        "huggingface": f"""from transformers import pipeline
classify = pipeline("{task}", model="{name}")""",
        "peft": f"""from peft import PeftModel
from transformers import AutoModel{kind}
base = AutoModel{kind}.from_pretrained("{base}", num_labels={card.problem.outputs})
model = PeftModel.from_pretrained(base, "{name}")""",
        "adapterhub": f"""from adapters import AutoAdapterModel
model = AutoAdapterModel.from_pretrained("{base}")
model.set_active_adapters(model.load_adapter("{name}", use_safetensors=True))""",
        "onnx": f"""from optimum.onnxruntime import ORTModel{kind}
from transformers import pipeline
model = ORTModel{kind}.from_pretrained("{name}", file_name="model.onnx")
classify = pipeline("{task}", model=model, tokenizer="{name}")""",
        "authors": "# a state of the authors' classifier, without its encoder: load_state_dict(..., strict=False)",
    }[to]
    return f"```python\n{code}\n```"


def _whole(folder: Path, card: Card, to: str, quantize: str) -> dict[str, bytes]:
    """Returns the files of the classifier that an adapter makes of its encoder."""
    base = locate(card.base)
    _, params, _ = adapter.attach(folder, pretrained.read(base, card.encoder))
    leaves = with_unit_fused(flatten(params), card.problem)
    if to == "huggingface":
        formats = [name for name, module in _OF_ADAPTERS.items() if type(card.method) in module.METHODS]
        return huggingface.write(card, leaves, base, formats)
    if missing := [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
        raise ValueError(f"--to onnx needs {missing[0]}; install it with: pip install 'adakron-jax[onnx]'")
    from adakron_jax.interop.onnx.folder import write

    return write(card, leaves, base, quantize)
