"""A report's page in a real browser, at the width of a phone. `make test-browser` installs one."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from adakron_jax.architectures.config import BERT_BASE
from adakron_jax.methods import AdaKron, Pfeiffer
from tests.report.test_report import write_eight
from train.report.__main__ import main

CHROMIUM = Path("/usr/bin/chromium")
WIDTH = 500  # the least of a headless window; a frame in it has a phone's
PHONE = 360
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --no-first-run"
)
MEASURE = """<!doctype html><title>waiting</title>
<iframe id="page" style="width: PHONEpx; height: 800px; border: 0"></iframe>
<script>
const frame = document.getElementById("page");
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement;
  const boxes = [...page.querySelectorAll(".box")];
  document.title = JSON.stringify({
    wide: root.scrollWidth, window: root.clientWidth, scrolls: boxes.some((box) => box.scrollWidth > box.clientWidth),
    drawn: [...page.querySelectorAll("svg")].every((svg) => svg.getBoundingClientRect().width > 200),
  });
};
frame.srcdoc = PAGE;
</script>"""

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="no /usr/bin/chromium; make test-browser installs it")


def dump(page: Path, profile: Path) -> str:
    """The document as the browser has it once the page's scripts have run."""
    command = [CHROMIUM, *FLAGS.split(), f"--user-data-dir={profile}", f"--window-size={WIDTH},900"]
    command += ["--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_on_a_phone_tables_scroll_in_their_boxes_and_the_page_does_not(tmp_path: Path):
    write_eight(tmp_path / "runs", AdaKron(), {0: 0.7, 1: 0.8}, BERT_BASE)
    write_eight(tmp_path / "runs", Pfeiffer(), {0: 0.7, 1: 0.8}, BERT_BASE)
    assert main([str(tmp_path / "runs")]) == 0
    report = (tmp_path / "runs" / "report.html").read_text("utf-8")
    page = tmp_path / "measure.html"
    # In a script's string, "<" would end the script where the page has "</script>" or "<!--".
    quoted = json.dumps(report).replace("<", "\\u003c")
    page.write_text(MEASURE.replace("PHONE", str(PHONE)).replace("PAGE", quoted))
    title = re.search(r"<title>(.*?)</title>", dump(page, tmp_path / "profile"))
    assert title is not None
    found = json.loads(title[1])
    assert 300 < found["window"] <= PHONE  # less the scroll bar, where it takes room
    assert found["wide"] == found["window"]
    assert found["scrolls"]
    assert found["drawn"]
