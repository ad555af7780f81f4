"""Merging: what the peers compute, what holds of every way, and what does not go together."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adakron_jax import adapter, methods
from adakron_jax.cli.main import main
from adakron_jax.encoders import pretrained
from adakron_jax.merging import WAYS, Way, merge_adapters
from adakron_jax.methods.registry import METHODS, fuse
from adakron_jax.params import flatten
from adakron_jax.problems import make
from adakron_jax.splice import Method
from tests.interop.test_formats import SMALL
from tests.merging.cases import CASES, LORA, STORED, logits_of, saved, written
from tests.support.adapters import BASES
from tests.support.methods import TELLING, nightly_but

WEIGHTS = (0.5, -0.25, 2.0)
ADDITIVE = [methods.LoRA(r=3), methods.FourierFT(n_frequency=9), methods.C3A(block_size=8)]


def leaves_of(folder: Path) -> dict[str, np.ndarray]:
    return flatten(adapter.load(folder)[0])


def encoder_of(folder: Path) -> dict[str, Any]:
    """The encoder's leaves with an adapter in them."""
    card = adapter.read_card(folder / "adapter.json")
    leaves = pretrained.read(BASES["bert"], card.encoder) | leaves_of(folder)
    leaves = fuse(card.method, leaves, card.encoder)[1] if card.method.splices(card.encoder) else leaves
    return {path: leaf for path, leaf in leaves.items() if path.startswith("encoder/")}


@pytest.mark.parametrize("name", CASES)
def test_the_logits_are_the_peer_s(name: str, tmp_path: Path) -> None:
    case, stored = CASES[name], np.load(STORED)
    folders = written(case, tmp_path)
    ours = case.ours | ({"head": folders[case.ours["head"]]} if "head" in case.ours else {})
    merge_adapters(folders, tmp_path / "merged", **ours)
    np.testing.assert_allclose(logits_of(tmp_path / "merged"), stored[name], rtol=0, atol=2e-5)
    alike = [other for other in CASES if other != name and CASES[other].adapters == case.adapters]
    assert all(np.abs(stored[other] - stored[name]).max() > 1e-2 for other in alike)


@pytest.mark.parametrize("how", WAYS)
def test_copies_of_a_tensor_give_it_back(how: str) -> None:
    x = np.array([[1.0, -2.0], [0.0, 3.0]])
    np.testing.assert_allclose(Way(how, (0.25, 0.75), 1.0, 0).combined([x, x]), x, rtol=0, atol=1e-15)


def test_ties_keeps_the_largest_of_each_and_takes_the_mean_over_the_sign_of_the_sum() -> None:
    first, second = np.array([4.0, -3.0, 1.0, 0.5]), np.array([-1.0, 2.0, 0.1, 5.0])
    merged = Way("ties", (0.5, 0.5), 0.5, 0).combined([first, second])
    np.testing.assert_array_equal(merged, [4.0, -3.0, 0.0, 5.0])


def test_dare_drops_entries_at_random_and_scales_the_others() -> None:
    x = np.ones((40, 50))
    merged = Way("dare", (1.0,), 0.25, 3).combined([x])
    assert set(np.unique(merged)) == {0.0, 4.0}
    assert merged.mean() == pytest.approx(1.0, abs=0.1)
    np.testing.assert_array_equal(merged, Way("dare", (1.0,), 0.25, 3).combined([x]))


@pytest.mark.parametrize("name", nightly_but(TELLING))
def test_copies_of_an_adapter_of_any_method_give_it_back(name: str, tmp_path: Path) -> None:
    one = saved(tmp_path / "a", METHODS[name](**SMALL.get(name.rstrip("+"), {})))
    merge_adapters([one, one, one], tmp_path / "merged")
    merged, leaves = leaves_of(tmp_path / "merged"), leaves_of(one)
    if name == "lora":  # of three times the rank, as the mean of others would be
        merged, leaves = encoder_of(tmp_path / "merged"), encoder_of(one)
    for path, leaf in leaves.items():
        np.testing.assert_allclose(merged[path], leaf, rtol=0, atol=1e-5 if name == "lora" else 1e-6, err_msg=path)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        *((method, {}) for method in ADDITIVE),
        (methods.KronA(a_shape=(4, 4)), {"rank": 32}),
        (methods.VeRA(r=5), {"rank": 32, "how": "svd"}),
        *((method, {}) for method in (methods.BitFit(), methods.LNTuning(), methods.Full())),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_updates_are_added_by_their_weights(method: Method, settings: dict[str, Any], tmp_path: Path) -> None:
    folders = [saved(tmp_path / str(seed), method, seed) for seed in range(3)]
    merge_adapters(folders, tmp_path / "merged", weights=WEIGHTS, head=folders[0], **settings)
    merged, trained = encoder_of(tmp_path / "merged"), [encoder_of(folder) for folder in folders]
    for path, leaf in pretrained.read(BASES["bert"], adapter.read_card(folders[0] / "adapter.json").encoder).items():
        if path in merged:
            expected = leaf + sum(w * (each[path] - leaf) for w, each in zip(WEIGHTS, trained, strict=True))
            np.testing.assert_allclose(merged[path], expected, rtol=0, atol=3e-5, err_msg=path)


def test_loras_of_several_ranks_become_one_of_their_sum_or_of_the_largest(tmp_path: Path) -> None:
    folders = [saved(tmp_path / str(r), dataclasses.replace(LORA, r=r), r) for r in (2, 5)]
    assert merge_adapters(folders, tmp_path / "merged").method == dataclasses.replace(LORA, r=7, alpha=7.0)
    assert merge_adapters(folders, tmp_path / "merged", how="svd").method == dataclasses.replace(LORA, r=5, alpha=5.0)
    assert merge_adapters(folders, tmp_path / "merged", rank=4).method == dataclasses.replace(LORA, r=4, alpha=4.0)


def test_a_chosen_head_is_taken_with_what_it_predicts(tmp_path: Path) -> None:
    first = saved(tmp_path / "a", LORA)
    second = saved(tmp_path / "b", LORA, 1, problem=make("multilabel", ("x", "y")))
    card = merge_adapters([first, second], tmp_path / "merged", head=second)
    assert card.problem == make("multilabel", ("x", "y"))
    for path, leaf in leaves_of(second).items():
        if path.startswith("classifier/"):
            np.testing.assert_array_equal(leaves_of(tmp_path / "merged")[path], leaf)


def refusal(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    """The one line on stderr."""
    assert main(["merge", *map(str, words)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


OTHERS: dict[str, tuple[Method, dict[str, Any]]] = {
    "a": (LORA, {}),
    "labels": (LORA, {"problem": make("classification", ("no", "yes"))}),
    "targets": (dataclasses.replace(LORA, targets=("key", "value")), {}),
    "method": (methods.IA3(), {}),
    "base": (LORA, {"fingerprint": "0" * 64}),
}


@pytest.mark.parametrize(
    ("second", "flags", "line"),
    [
        ("labels", "", "labels: no, yes (form own, pooling pooler); accepted: alike, or one chosen with --head"),
        ("targets", "", "targets: method is LoRA("),
        ("method", "", "method: method is IA3("),
        ("base", "", "base: trained on"),
        ("nothing", "", "nothing: no adapter there"),
        ("a", "--weights 1", "1 weights for 2 adapters; accepted: one for each adapter"),
        ("a", "--weights 1 nan", "weights is (1.0, nan); accepted: finite numbers"),
        ("a", "--weights 1 -1", "weights is (1.0, -1.0); accepted where leaves are averaged: a sum above 0"),
        ("a", "--how mean", "how is 'mean'; accepted: linear, ties, dare, svd"),
        ("a", "--how ties --density 0", "density is 0.0; accepted: above 0, at most 1"),
        ("a", "--rank -1", "rank is -1; accepted: at least 0"),
        ("a", "--head b", "head is 'b'; accepted: "),
        ("", "", "accepted: two or more"),
    ],
)
def test_what_does_not_go_together_is_refused(
    second: str, flags: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in {"a", second} & OTHERS.keys():
        method, fields = OTHERS[name]
        saved(tmp_path / name, method, 0, **fields)
    folders = [tmp_path / name for name in ("a", second) if name]
    assert line in refusal(capsys, *folders, "--out", tmp_path / "merged", *flags.split())
    assert not (tmp_path / "merged").exists()


def test_an_adapter_that_is_merged_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [saved(tmp_path / name, LORA, seed) for seed, name in enumerate("ab")]
    before = (folders[1] / "adapter.safetensors").read_bytes()
    assert "one of the adapters to merge; accepted: another folder" in refusal(capsys, *folders, "--out", folders[1])
    assert (folders[1] / "adapter.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("method", "settings", "line"),
    [
        (methods.IA3(), {"how": "ties"}, "how is ties; accepted for ia3, whose leaves are averaged: linear"),
        (methods.IA3(), {"rank": 2}, "rank is 2, which is for additive updates; accepted for ia3: none"),
        (methods.C3A(block_size=8), {"how": "svd"}, "how is svd, which turns c3a into a LoRA; accepted: with a"),
        (methods.VeRA(r=3), {}, "shared@vera/vera_a is frozen, and not the same in all; accepted for vera"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_way_that_is_not_for_a_method_is_refused(
    method: Method, settings: dict[str, Any], line: str, tmp_path: Path
) -> None:
    folders = [saved(tmp_path / str(seed), method, seed) for seed in (0, 1)]
    with pytest.raises(ValueError, match=line):
        merge_adapters(folders, tmp_path / "merged", **settings)


def test_the_command_writes_an_adapter_and_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(saved(tmp_path / str(seed), LORA, seed)) for seed in (0, 1)]
    assert main(["merge", *folders, "--how", "svd", "--weights", "1", "2", "--out", str(tmp_path / "merged")]) == 0
    assert "LoRA(" in capsys.readouterr().out
    assert adapter.read_card(tmp_path / "merged" / "adapter.json").method == dataclasses.replace(LORA, alpha=3.0)


PAGE = (Path(__file__).parents[2] / "docs" / "merging.md").read_text(encoding="utf-8")


RUN = re.sub(r"<!-- not run.*?```.*?```", "", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("command", re.findall(r"^adakron (merge .*)$", RUN, re.MULTILINE))
def test_the_page_s_commands_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, name in enumerate("abc"):
        saved(tmp_path / "runs" / name / "adapter", LORA, seed)
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 0
    assert adapter.load(tmp_path / "runs" / "merged")


def test_the_page_names_every_method_that_is_not_averaged(tmp_path: Path) -> None:
    (table,) = re.findall(r"^\| method \| ways .*?\n(?=\n)", PAGE, re.MULTILINE | re.DOTALL)
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named < METHODS.keys()
    for name in METHODS.keys() - named:
        one = saved(tmp_path / name, METHODS[name](**SMALL.get(name.rstrip("+"), {})))
        with pytest.raises(ValueError, match="whose leaves are averaged: linear"):
            merge_adapters([one, one], tmp_path / "merged", how="ties")
