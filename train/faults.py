"""What a machine may refuse a run: no mistake of the program's, and said in one line."""

import errno

_REFUSED = {
    errno.ENOSPC: "no room on disk",
    errno.EDQUOT: "no room on disk",
    errno.EROFS: "the disk takes no writes",
    errno.EIO: "the disk fails",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.ENOMEM: "out of memory",
}


def refused(error: BaseException) -> str:
    """What the machine has refused, in a line; empty if the error is of another kind."""
    if isinstance(error, OSError):
        what = _REFUSED.get(error.errno or 0, "")
    else:  # jax says RESOURCE_EXHAUSTED of an accelerator's memory as of the host's
        what = "out of memory" if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) else ""
    words = " ".join(str(error).split())
    return what and f"{what}{words and f': {words:.200}'}"
