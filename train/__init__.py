"""The training program: `python -m train --task rte` on the command line, `from train import fit` in Python."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train.fitting import fit as fit


def __getattr__(name: str) -> Any:
    if name != "fit":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from train.fitting import fit

    globals()[name] = fit
    return fit
