"""How the runs of a command are carried out: all that a command says besides the configurations of its runs."""

import dataclasses
import re
from typing import Literal

from train.options.config import MACHINE, Limit, RunConfig, option, options
from train.options.hosts import parse_hosts
from train.options.option import check_options

GRIDS, SELECTION = "grids", "selection"
# Fields of a run whose values make a grid, or are selected from, if there are several. `epochs` has one value, and is
# selected from the epochs up to it. The fields of a method are `method.FIELD`.
VARIED = [name for name, known in options(RunConfig).items() if known.grid and name not in ("task", "method", "seed")]
EPOCHS, OF_METHOD = "epochs", "method."
Devices = int | Literal["mesh"]
_WORKERS = re.compile(r"local(:0*[1-9]\d*)?|ray(:.+)?")


@dataclasses.dataclass(frozen=True)
class Launch:
    """How the runs of a command are carried out, and what is selected first; nothing else in the results depends on it.

    Raises:
      ValueError: a field is out of its range; the message names it and what is accepted.
    """

    grid: str = option("", "a TOML file of these flags, with lists where values vary", GRIDS)
    together: bool = option(False, "train all seeds and learning rates of a method together", GRIDS)
    workers: str = option(
        "", "run cells side by side: local[:N], in N processes here, by default one for each device (on a CPU, core); "
        "ray[:ADDRESS], on a Ray cluster", GRIDS,
    )  # fmt: skip
    devices_per_run: Devices = option(
        "mesh", "devices (on a CPU, cores) of each worker; mesh: as many as --mesh has", GRIDS, at_least=1
    )
    dry_run: bool = option(False, "only list the runs and estimate what they cost", GRIDS)
    select: tuple[str, ...] = option(
        (), "fields whose value is chosen for each task and method, on training rows held out by --validation; then "
        f"every seed is trained with it on all rows: {', '.join((*VARIED, EPOCHS))}, {OF_METHOD}FIELD", SELECTION,
    )  # fmt: skip
    select_seed: tuple[int, ...] = option((0,), "seeds that choose, other than --seed; scores are averaged", SELECTION)
    select_grow: int = option(
        2, "times to add a value beyond the edge of the list while the best lies there", SELECTION, at_least=0
    )
    select_budget: Limit = option(
        "all", "with several fields, try N combinations, drawn at random", SELECTION, at_least=2
    )
    hosts: str = option(
        "", "train one run with several processes: auto asks Slurm, MPI, Kubernetes or the TPU pod for them; else "
        "COORDINATOR:PORT,COUNT,INDEX", MACHINE,
    )  # fmt: skip

    def __post_init__(self):
        check_options(self)
        if self.hosts:
            parse_hosts(self.hosts)
        if self.workers and not _WORKERS.fullmatch(self.workers):
            raise ValueError(f"workers is {self.workers!r}; accepted: local, local:N, ray, ray:ADDRESS")
        if self.devices_per_run != "mesh" and not self.workers:
            raise ValueError(f"devices_per_run is {self.devices_per_run}, without workers; accepted: with --workers")
        self._check_selection()

    def _check_selection(self) -> None:
        for name, known in options(Launch).items():
            if not self.select and known.group == SELECTION and getattr(self, name) != getattr(Launch, name):
                raise ValueError(f"{name} is {getattr(self, name)!r}, without select; accepted: with --select")
        for name in self.select:
            if name not in (*VARIED, EPOCHS) and not name.startswith(OF_METHOD):
                accepted = ", ".join(sorted([*VARIED, EPOCHS]))
                raise ValueError(f"select is {name!r}; accepted: {accepted}, or {OF_METHOD}FIELD of the method")
        if len(set(self.select)) < len(self.select):
            raise ValueError(f"select is {' '.join(self.select)!r}; accepted: every field once")
        seeds = self.select_seed
        if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
            raise ValueError(f"select_seed is {' '.join(map(str, seeds))!r}; accepted: seeds, every one once")
