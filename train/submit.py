"""`python -m train.submit RUN [RUN ...] --out glue.zip`: predicts GLUE's test sets for the leaderboard.

Exit codes: 0 done; 2 bad input, named in one line; 130 stopped by the user. Unless it is 0, nothing is written.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from adakron_jax.io import interrupts, streams


def main(argv: Sequence[str]) -> int:
    streams.prepare()
    interrupts.listen()
    try:
        _run(argv)
    except (ValueError, OSError) as error:
        return streams.complain("submit", error, 2)
    except KeyboardInterrupt:
        return streams.complain("submit", "stopped; nothing is written", 130)
    return 0


def _run(argv: Sequence[str]) -> None:
    from adakron_jax.flags import add_trust_flag
    from adakron_jax.io.parser import Parser
    from adakron_jax.methods.external import trust

    parser = Parser(prog="adakron submit", description="Writes a submission to the GLUE leaderboard.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, or a folder of runs")
    parser.add_argument("--out", type=Path, default=Path("glue.zip"), help="the zip (default: glue.zip)")
    parser.add_argument("--data", default="", help="where the test sets are (default: where the run's data were)")
    parser.add_argument("--model", default="", help="the encoder (default: the run's)")
    add_trust_flag(parser)
    given = parser.parse_args(argv)
    trust(*given.trust)
    from train.submission import submit

    submit(given.runs, given.out, given.data, given.model)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
