"""`--hosts`: the processes that train one run together, and which of them this one is."""

import dataclasses

AUTO = "auto"


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of a process among those of a run.

    Attributes:
      coordinator: the address and port at which host 0 listens.
      count, index: how many hosts there are, and the number of this one, from 0.
    """

    coordinator: str
    count: int
    index: int


def parse_hosts(text: str) -> Place | None:
    """Returns the place in a text such as `10.0.0.1:1234,4,0`; None for `auto`. ValueError says what is accepted."""
    if text == AUTO:
        return None
    coordinator, *numbers = text.split(",")
    host, _, port = coordinator.rpartition(":")
    numeric = all(number.isdecimal() for number in (port, *numbers))
    if not host or len(numbers) != 2 or not numeric:
        raise ValueError(f"hosts is {text!r}; accepted: auto, or COORDINATOR:PORT,COUNT,INDEX as in 10.0.0.1:1234,4,0")
    count, index = map(int, numbers)
    if not 0 < int(port) < 2**16:
        raise ValueError(f"hosts is {text!r}, with port {port}; accepted: 1 to {2**16 - 1}")
    if index >= count:
        raise ValueError(f"hosts is {text!r}, with {count} hosts; accepted: an index from 0 to {max(count - 1, 0)}")
    return Place(coordinator, count, index)
