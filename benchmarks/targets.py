"""Machines to compile for without having them; `pip install .[compiled]` brings their compilers."""

import dataclasses
import importlib.util
import os
from collections.abc import Sequence
from typing import Any

from jax.experimental import topologies

from benchmarks.hlo import Kernel


@dataclasses.dataclass(frozen=True)
class Target:
    """A machine to compile for.

    Attributes:
      peak: dense bf16 FLOP/s, by the maker's data sheet.
      needs: the module that contains its compiler.
      clock: a TPU's clock in Hz, from peak and matrix units: four of 128 x 128, or of 256 x 256.
    """

    platform: str
    needs: str
    peak: float
    clock: float = 0.0

    def seconds(self, kernel: Kernel) -> float:
        if self.clock:
            return kernel.cycles / self.clock
        return max(kernel.bytes / 4.3e12, kernel.flops / 790e12) + 2.5e-6 * kernel.times


TARGETS = {
    "h200": Target("cuda", "jax_plugins.xla_cuda13", 989e12),
    "v5e": Target("tpu", "libtpu", 197e12, 1.5e9),
    "v6e": Target("tpu", "libtpu", 918e12, 1.75e9),
}
H200 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 4800000000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 150000000000 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 12 } runtime_version { major: 13 minor: 0 }
device_description_str: "NVIDIA H200"
"""


def devices(name: str, count: int) -> Sequence[Any]:
    """Returns `count` devices of a target to compile for; ValueError if its compiler is not installed."""
    target = TARGETS[name]
    if not _installed(target.needs):
        raise ValueError(f"target is {name!r}: {target.needs} is not installed; accepted: pip install .[compiled]")
    if target.platform == "cuda":
        return topologies.get_topology_desc("", "cuda", target_config=H200, topology=f"1x1x{count}").devices
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no cloud machine to ask
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # nor a chip that only one process can use
    chips = topologies.get_topology_desc(f"{name}:{'2x4' if count <= 8 else '16x16'}", "tpu").devices
    if count > len(chips):
        raise ValueError(f"mesh has {count} devices; accepted: at most {len(chips)} of {name}")
    return chips[:count]


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
