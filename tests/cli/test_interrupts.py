"""SIGINT and SIGTERM, wherever in a command they come."""

import os
import signal
import time
from collections.abc import Iterator
from importlib.machinery import ExtensionFileLoader
from typing import Any

import pytest

from adakron_jax.cli import main as cli
from adakron_jax.cli import params
from adakron_jax.io import interrupts


@pytest.fixture(autouse=True)
def listening() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in interrupts.BOTH}
    interrupts.listen()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_interrupt_of_which_another_error_is_made_stops_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def run(given: Any) -> Any:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("a comparison failed") from None  # as JAX's C++ does

    monkeypatch.setattr(params, "run", run)
    assert cli.main(["params"]) == 130
    assert capsys.readouterr().err == "adakron: stopped\n"


def test_no_compiled_module_is_interrupted_while_it_is_loaded():
    class Loader(ExtensionFileLoader):
        def create_module(self, spec: Any) -> Any:
            os.kill(os.getpid(), signal.SIGTERM)
            return spec

    assert Loader("module", "module.so").create_module("made") == "made"
    with pytest.raises(KeyboardInterrupt):
        time.sleep(10)
