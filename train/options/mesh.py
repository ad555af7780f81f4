"""`--mesh`: how many devices hold the rows of a batch, and how many the parts of a matrix."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class MeshShape:
    """The number of devices along each axis of the mesh; as text, such as `data=4,model=2`."""

    data: int = 1
    model: int = 1

    @property
    def devices(self) -> int:
        return self.data * self.model

    def __str__(self) -> str:
        return ",".join(f"{axis}={size}" for axis, size in vars(self).items() if size > 1) or "data=1"


def parse_mesh(text: str) -> MeshShape:
    """Returns the shape that a text describes; an unnamed axis has one device. ValueError says what is accepted."""
    sizes: dict[str, int] = {}
    for part in text.split(","):
        axis, _, size = part.partition("=")
        if axis not in ("data", "model") or not size.isdecimal() or int(size) < 1:
            raise ValueError(f"mesh is {text!r}; accepted: axes such as data=8 or data=4,model=2")
        sizes[axis] = int(size)
    return MeshShape(**sizes)
