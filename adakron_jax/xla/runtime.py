"""Settings for the whole process, made by this package's commands; as a library it leaves the caller's settings."""

import ctypes

import jax

from adakron_jax.io.files import cache_folder

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # as glibc's malloc.h numbers them
KEPT = 2**30  # bytes; larger blocks of memory are returned to the system


def set_up() -> None:
    """Keeps executables on disk, and freed memory in the process."""
    keep_executables()
    keep_memory()


def keep_executables() -> None:
    """Caches executables on disk for later processes, in JAX_COMPILATION_CACHE_DIR if that is set."""
    unset = jax.config.jax_compilation_cache_dir is None  # pyright: ignore[reportAttributeAccessIssue]
    if unset and (folder := cache_folder()):
        jax.config.update("jax_compilation_cache_dir", str(folder / "programs"))
    # Also those that compile quickly, which JAX by default compiles again at each start.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def keep_memory() -> None:
    """Lets the process reuse freed memory that glibc would return to the system.

    A step's buffers are large enough to be mapped anew each time, and the system fills every page with zeros first,
    which took three quarters of the time of selecting adapters from a bank. All threads share one arena, since the
    other arenas map blocks larger than 64 MB whatever the threshold. Other C libraries are left as they are.
    """
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, KEPT)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT)
