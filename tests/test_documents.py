"""What several documents say, they say alike; and the documentation has every public name."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import adakron_jax as ak
from adakron_jax.cli.main import COMMANDS, PROGRAM
from train.data.sources import MINI

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def text(name: str) -> str:
    """A document's text, its lines joined."""
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


def cited(field: str) -> str:
    found = re.search(rf"^{field}: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def test_package_citation_and_changelog_have_one_version():
    latest = re.search(r"## (\S+)", text("CHANGELOG.md"))
    assert latest is not None
    assert ak.__version__ == PROJECT["version"] == cited("version") == latest[1]


def test_package_citation_and_licence_are_of_one_project():
    assert cited("title") == "AdaKron-JAX" == text("README.md").split(" ")[1]
    assert cited("license") == PROJECT["license"]
    assert text("LICENSE").startswith("Apache License Version 2.0")
    assert [author["name"] for author in PROJECT["authors"]] == [re.findall(r"- name: (.+)", read("CITATION.cff"))[0]]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_demo_is_told_alike():
    said = re.search(
        r"best epoch and last: AdaKron ([\d.]+) and ([\d.]+), head-only .* ([\d.]+) and ([\d.]+)\.",
        text("docs/installation.md"),
    )
    seen = re.search(
        r"seen: ([\d.]+) accuracy .*, ([\d.]+) after the last epoch; head-only ([\d.]+) and ([\d.]+)",
        read("configs/demo.toml"),
    )
    assert said is not None
    assert seen is not None
    assert said.groups() == seen.groups()


def test_the_readme_tells_the_demos_size_as_it_is():
    said = re.search(r"trains on ([\d,]+) sentences for (\d+) epochs", text("docs/installation.md"))
    assert said is not None
    rows, validation = (len(read_rows(split)) for split in ("train", "validation"))
    recipe: dict[str, Any] = tomllib.loads(read("configs/demo.toml"))
    assert said.groups() == (f"{rows:,}", str(recipe["epochs"]))
    assert f"the {validation} validation sentences" in text("docs/installation.md")
    assert f"the {validation} validation sentences" in read("configs/demo.toml")


def read_rows(split: str) -> list[str]:
    return (MINI / "sst2" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()[1:]


def test_the_pythons_are_those_of_the_workflow():
    least = PROJECT["requires-python"].removeprefix(">=")
    tested = re.findall(r'"(3\.\d+)"', read(".github/workflows/ci.yml"))
    named = [name.split(" :: ")[-1] for name in PROJECT["classifiers"] if "Python :: 3." in name]
    assert least == named[0] == tested[0]
    assert set(tested) <= set(named)
    assert f"Python {least} or newer" in text("docs/installation.md")


def test_the_reference_has_every_name_of_the_front_door():
    named = re.findall(r"^\.\. auto\w+:: (\w+)", read("docs/api.md"), re.MULTILINE)
    assert sorted(named) == sorted([*ak._MODULES, "fit"])


def test_the_page_of_flags_has_every_command():
    assert sorted(re.findall(r"^\.\. help:: (\w+)", read("docs/flags.md"), re.MULTILINE)) == sorted(COMMANDS | PROGRAM)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_is_in_the_sites_index(page: Path):
    listed = re.findall(r"^(?:.*<)?([\w/-]+)>?$", read("docs/index.md"), re.MULTILINE)
    assert page.stem in listed or page.stem == "index"


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "docs/results/README.md", *(f"docs/{page.name}" for page in PAGES)]
)
def test_every_link_leads_to_a_file(name: str):
    for link in re.findall(r"\]\(([^)#:]+)\)", read(name)):
        assert ((ROOT / name).parent / link).exists(), link
