"""What a machine may refuse a run, such as disk space or memory: not a bug, so it is reported in one line."""

import errno
import re
import resource

FILES = 64  # that a run must be able to open; it opens about 40, and orbax may hang for long where it is refused one
_REFUSED = {
    errno.ENOSPC: "no room on disk",
    errno.EDQUOT: "no room on disk",
    errno.EFBIG: "a file may not be that large",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EIO: "the disk reports an error",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.ENOMEM: "out of memory",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "a loop of symbolic links",
}
# JAX's message for device and host memory alike, and Python's where a thread's stack cannot be allocated.
_NO_MEMORY = re.compile("RESOURCE_EXHAUSTED|can't start new thread")


def refused(error: BaseException) -> str:
    """Returns a line that says what the machine refused; empty if the error is of another kind."""
    if isinstance(error, OSError):
        what = _REFUSED.get(error.errno or 0, "")
    else:
        what = "out of memory" if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) else ""
    words = " ".join(str(error).split())
    return what and f"{what}{words and f': {words:.200}'}"


def demand_files() -> None:
    """Lets this process open at least FILES files at once; ValueError if the system does not allow it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        soft = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < FILES:
        raise ValueError(f"this process may have {soft} files open (ulimit -n); accepted: at least {FILES}")
