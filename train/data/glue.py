"""GLUE's nine tasks: columns, labels, splits and metrics, as the hub's `nyu-mll/glue` has them."""

from adakron_jax.problems import Classification, Regression
from train.data.task import MISMATCHED, Task

BOUNDS = {"stsb": (0.0, 5.0)}  # of a regression's labels


def _task(name: str, train_examples: int, texts: tuple[str, ...], labels: tuple[str, ...], **fields) -> Task:
    problem = Classification(labels) if labels else Regression()
    return Task(name, problem, texts, train_examples=train_examples, **fields)


_PAIR = ("sentence1", "sentence2")
_MNLI = {"validation_matched": "", "validation_mismatched": MISMATCHED}
# The first metric is the one that the paper's Table 1 reports; the authors took the last epoch of two tasks.
_TASKS = (
    _task(
        "cola",
        8_551,
        ("sentence",),
        ("unacceptable", "acceptable"),
        metrics=("matthews", "accuracy"),
        best_by="last",
    ),
    _task("sst2", 67_349, ("sentence",), ("negative", "positive")),
    _task("mrpc", 3_668, _PAIR, ("not_equivalent", "equivalent"), metrics=("f1", "accuracy")),
    _task("qqp", 363_846, ("question1", "question2"), ("not_duplicate", "duplicate"), metrics=("f1", "accuracy")),
    _task("stsb", 5_749, _PAIR, (), metrics=("pearson", "spearman"), best_by="last"),
    _task("mnli", 392_702, ("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), dev_splits=_MNLI),
    _task("qnli", 104_743, ("question", "sentence"), ("entailment", "not_entailment")),
    _task("rte", 2_490, _PAIR, ("entailment", "not_entailment")),
    _task("wnli", 635, _PAIR, ("not_entailment", "entailment")),
)
TASKS = {task.name: task for task in _TASKS}
SUITES = {"glue": ("mnli", "qnli", "sst2", "qqp", "mrpc", "cola", "rte", "stsb")}  # the paper's eight, in its order
