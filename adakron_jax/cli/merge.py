"""`merge`: several adapters of one method and one encoder as one."""

from typing import Any

from adakron_jax.flags import add_trust_flag
from adakron_jax.io.parser import Parser


def add_flags(parser: Parser) -> None:
    text = "folders of runs or adapters, or hub:OWNER/NAME[@REV]"
    parser.add_argument("adapters", nargs="+", metavar="ADAPTER", help=text)
    parser.add_argument("--out", required=True, metavar="DIR", help="the adapter's folder to write")
    parser.add_argument("--weights", nargs="+", type=float, metavar="W", help="one per adapter; by default 1/N each")
    parser.add_argument("--how", metavar="WAY", help="linear (default), ties, dare or svd")
    parser.add_argument("--head", metavar="ADAPTER", help="adapter whose head is taken; by default heads are averaged")
    parser.add_argument("--density", type=float, help="share of each update that ties and dare keep; by default 0.5")
    parser.add_argument("--rank", type=int, help="rank of the LoRA that updates are merged into")
    parser.add_argument("--seed", type=int, help="seed that decides what dare keeps; by default 0")
    add_trust_flag(parser)


def run(given: dict[str, Any]) -> int:
    from adakron_jax.merging import merge_adapters

    card = merge_adapters(**given)
    print(f"{given['out']}: {card.method}, {card.problem.described()}, on {card.base}")
    return 0
