"""What the work on a photograph changes about its file, and what it took away."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Change:
    """The result's size, and the EXIF orientation that was undone to get there."""

    width: int
    """Of the upright result, in pixels."""
    height: int
    colour: bool = True
    """Whether the result has three channels rather than one grey one."""
    orientation: int = 1
    """1 to 8, as the source said it; the result is always 1."""

    @property
    def turned(self) -> bool:
        """Whether the pixels are in another order than before."""
        return self.orientation != 1

    @property
    def sideways(self) -> bool:
        """Whether width and height changed places."""
        return self.orientation >= 5


@dataclass
class Carried:
    """What every container has a place for, to go from one format to another. ``None``: there is none."""

    exif: bytes | None = None
    """A TIFF structure, without the ``Exif`` signature that JPEG puts before it."""
    xmp: bytes | None = None
    icc: bytes | None = None
    photoshop: bytes | None = None
    """Photoshop's image resources, IPTC among them."""
    resolution: tuple[float, float] | None = None
    """Pixels per metre, across and down, where the container itself says it."""
    others: list[str] = field(default_factory=list)
    """What only this container has a place for, in words."""


class Notes(list[str]):
    """What could not be kept, in words; nothing is said twice."""

    def add(self, note: str) -> None:
        """Take ``note`` up unless it is there."""
        if note not in self:
            self.append(note)
