"""What a machine may refuse a run: no mistake of the program's, and said in one line."""

import errno
import re
import resource

FILES = 64  # that a run must be able to have open; about 40 are, and orbax may wait long where one more is refused
_REFUSED = {
    errno.ENOSPC: "no room on disk",
    errno.EDQUOT: "no room on disk",
    errno.EROFS: "the disk takes no writes",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EIO: "the disk fails",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.ENOMEM: "out of memory",
    errno.ENAMETOOLONG: "too long a name",
    errno.ELOOP: "links in a circle",
}
# jax's, of an accelerator's memory as of the host's; Python's, where there is none for a thread's stack.
_NO_MEMORY = re.compile("RESOURCE_EXHAUSTED|can't start new thread")


def refused(error: BaseException) -> str:
    """What the machine has refused, in a line; empty if the error is of another kind."""
    if isinstance(error, OSError):
        what = _REFUSED.get(error.errno or 0, "")
    else:
        what = "out of memory" if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) else ""
    words = " ".join(str(error).split())
    return what and f"{what}{words and f': {words:.200}'}"


def demand_files() -> None:
    """Lets this process open FILES files at once; ValueError if it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        soft = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft < FILES:
        raise ValueError(f"this process may have {soft} files open (ulimit -n); accepted: at least {FILES}")
