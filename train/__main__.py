"""`python -m train --task rte`: fine-tunes, and says how it went by its exit code.

0 done; 2 bad input, in one line; 130 stopped by the user, resumable; 1 anything else.
"""

import errno
import signal
import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(argv)
    except KeyboardInterrupt:
        return _complain("stopped; the same command starts or continues the run", 130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _complain(f"no room on disk: {error}; the last checkpoint is kept", 2)


def _run(argv: Sequence[str]) -> int:
    from train.config import parse

    try:
        config = parse(argv)
        from train import console, loop, run

        console.say(f"{config.task} with {config.method} on {config.model}, recipe {config.recipe}, in {config.folder}")
        if (result := run.finished(config)) is not None:
            console.say("this run has ended; its result:")
            console.show_result(result, config)
            return 0
        prepared = run.prepare(config)
    except ValueError as error:
        return _complain(str(error), 2)
    try:
        loop.train(prepared)
    except loop.Stopped as stop:
        return _complain(str(stop), 130)
    except loop.Diverged as diverged:
        return _complain(f"{diverged}; the last good checkpoint, if there was one, is in {config.folder}", 1)
    return 0


def _complain(text: str, code: int) -> int:
    print(f"train: {' '.join(text.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
