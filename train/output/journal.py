"""`metrics.jsonl` and TensorBoard events."""

import json
from pathlib import Path
from typing import Any

from adakron_jax.files import write_whole


class Journal:
    """`metrics.jsonl` and TensorBoard events: one record a logged step and one an evaluation."""

    def __init__(self, folder: Path, resumed_at: int):
        """Continues the journal of a run resumed at a step; records of later steps, which will be repeated, go."""
        from tensorboardX import SummaryWriter

        self._path = folder / "metrics.jsonl"
        self.records = [record for record in _read_records(self._path) if record["step"] <= resumed_at]
        if not resumed_at:
            self.records = []
        write_whole(self._path, "".join(json.dumps(record) + "\n" for record in self.records).encode())
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_at + 1)

    def write(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        for name, value in record.items():
            if name not in ("kind", "step", "split"):
                self._events.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["kind"] == kind]

    def close(self) -> None:
        self._events.close()


def _read_records(path: Path) -> list[dict[str, Any]]:
    """The whole records of a journal; a killed run may have left half of a last line."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]
