"""What the programs of the peers' environment share: a case a line of stdin, a reply a line of stdout."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

FLOAT = {"torch_dtype": torch.float32}


def write_logits(model: Any, inputs: str, out: str) -> None:
    """Writes the logits of arrays by name."""
    arrays = np.load(inputs)
    with torch.no_grad():
        logits = model.eval()(**{name: torch.tensor(arrays[name]) for name in arrays.files}).logits
    np.save(out, logits.numpy())


def serve(main: Callable[[str], None]) -> None:
    """Does what each line asks for."""
    for line in sys.stdin:
        try:
            main(line)
            print("done", flush=True)
        except Exception as error:  # whatever it is, the next case goes on
            print("failed", repr(error), flush=True)
