"""`export`: an adapter for other programs, or the classifier that it makes of its encoder."""

import sys
from pathlib import Path
from typing import Any

from adakron_jax.flags import add_model_flag, add_trust_flag
from adakron_jax.io.parser import Parser


def add_flags(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder, an adapter's, or hub:OWNER/NAME[@REV]")
    parser.add_argument(
        "--to",
        required=True,
        metavar="FORMAT",
        help="huggingface: one plain classifier, the adapter fused into it; onnx: one classifier of any method, for "
        "ONNX Runtime; peft, adapterhub, authors (of AdaKron): the adapter alone",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to write")
    add_model_flag(parser)
    parser.add_argument("--quantize", metavar="TYPE", help="for onnx, write a second model of a quarter the size: int8")
    parser.add_argument("--table", type=Path, metavar="FILE", help="for onnx, score the models on a table with labels")
    parser.add_argument("--text", nargs="+", metavar="COLUMN", help="the table's, one or two (default: the run's)")
    parser.add_argument("--label", nargs="+", metavar="COLUMN", help="the table's (default: the run's)")
    add_trust_flag(parser)


def run(given: dict[str, Any]) -> int:
    from adakron_jax.interop.convert import export_adapter

    def note(line: str) -> None:
        print(f"adakron: note: {line}", file=sys.stderr)

    if "table" in given and given["to"] != "onnx":
        raise ValueError(f"--table is for --to onnx, not for --to {given['to']}")
    examples = _examples(given) if "table" in given else None  # so that a mistake shows before anything is written
    out, quantize = Path(given["out"]), given.get("quantize", "")
    files = export_adapter(given["run"], given["to"], out, given.get("model"), note, quantize)
    print(f"{out}: {', '.join(files)}")
    for file in (out / name for name in files if name.endswith(".onnx")):
        size = f"{file}: {file.stat().st_size / 1e6:,.1f} MB"
        print(f"{size}, {_scores(file, *examples)}" if examples else size)
    return 0


def _examples(given: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Returns the table's problem, targets, and tokenised examples."""
    from adakron_jax.adapter import read_card
    from adakron_jax.cli.evaluate import labelled
    from adakron_jax.hub.adapters import locate_adapter
    from adakron_jax.hub.models import locate
    from adakron_jax.tokenizer import Tokenizer

    card = read_card(locate_adapter(given["run"]) / "adapter.json")
    columns, label = given.get("text", card.texts or ["text"]), given.get("label", card.label or ["label"])
    texts, targets = labelled(given["table"], card, columns, label)
    tokenizer = Tokenizer(locate(given.get("model") or card.base), card.encoder.vocab_size)
    return card.problem, targets, card.problem.encode(tokenizer, texts, card.max_length)


def _scores(model: Path, problem: Any, targets: Any, examples: Any) -> str:
    """Computes the table's metrics for a model in ONNX Runtime."""
    from adakron_jax.interop.onnx.folder import logits_of

    mean, scale = problem.unit  # the unit of the model's outputs
    logits = problem.arranged(examples, (logits_of(model, examples) - mean) / scale)
    scores = problem.scores(targets, problem.predict(logits))
    return ", ".join(f"{name} {score:.4f}" for name, score in scores.items())
