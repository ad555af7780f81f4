"""A command-line parser that imports nothing else."""

import argparse
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser without abbreviations, whose errors are a ValueError of one line."""

    def __init__(self, **settings: Any):
        super().__init__(**settings, allow_abbrev=False, argument_default=argparse.SUPPRESS)

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)

    @property
    def flags(self) -> list[str]:
        """The long flags that `--help` shows."""
        shown = (action for action in self._actions if action.help != argparse.SUPPRESS)
        return [flag for action in shown for flag in action.option_strings if flag.startswith("--")]
