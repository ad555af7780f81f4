"""What our programs set for their whole process; the library leaves a caller's as it is."""

import ctypes

import jax

from adakron_jax.io.files import cache_folder

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # as glibc's malloc.h numbers them
KEPT = 2**30  # bytes; larger pieces of memory than this go back to the system


def set_up() -> None:
    """Keeps executables on disk, and memory in the process."""
    keep_executables()
    keep_memory()


def keep_executables() -> None:
    """Lets executables be taken from disk by later processes; JAX_COMPILATION_CACHE_DIR says from where."""
    unset = jax.config.jax_compilation_cache_dir is None  # pyright: ignore[reportAttributeAccessIssue]
    if unset and (folder := cache_folder()):
        jax.config.update("jax_compilation_cache_dir", str(folder / "programs"))
    # The small ones of a start too, which jax by itself would compile again each time.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def keep_memory() -> None:
    """Lets memory that is free be used again, where glibc would give it back to the system.

    A step's buffers are large enough to be mapped anew each time, and the system fills every page with zeros first: of
    selecting adapters from a bank that was three quarters of the time. All threads share one arena, since the others
    map what is larger than 64 MB whatever the threshold. Other C libraries are left as they are.
    """
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, KEPT)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT)
