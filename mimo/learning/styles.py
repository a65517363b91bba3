"""What shakes are drawn for pictures, by style. Nothing heavy is imported here: options are checked against it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Style = Literal["shake", "handheld", "video"]

SHORTEST, LONGEST = 0.5, 200.0
"""Bounds of a shake in pixels: less is none, more would leave nothing of a picture."""
LENGTHS = f"from {SHORTEST:g} to {LONGEST:g} pixels"


@dataclass(frozen=True)
class Shake:
    """What is drawn for the pairs. Lengths are in pixels of the finished picture."""

    shortest: float = 1.0
    longest: float = 40.0
    """The extent of a trajectory, drawn evenly on a logarithmic scale: as many under 6 pixels as over."""
    jitters: tuple[float, ...] = (0.0, 0.05, 0.15, 0.3)
    """Tremble on top of the smooth drift, as a part of its extent; one is drawn for each pair."""
    turn: float = 0.5
    """How far a corner moves at most by turning, as a part of the extent."""
    noise: float = 0.01
    """The largest standard deviation of the noise at mid grey, in linear light of [0,1]; evenly drawn from 0."""
    scales: tuple[float, float] = (0.5, 0.85)
    """Photographs are made smaller by a factor drawn from this range, so that the truth is sharp to the pixel."""
    longest_side: int = 720
    """A larger result is a crop, drawn too."""
    wander: float = 0.35
    """How much the drift changes its course while the shutter is open; 0 is a straight line."""
    moving: float = 0.0
    """The part of the pairs in which something in the picture moves on its own, in front of the rest."""
    encoded: bool = False
    """Average the sRGB values instead of the light: what averaging the frames of a video does."""

    def between(self, shortest: float | None, longest: float | None) -> Shake:
        """The same within other lengths; None leaves one as it is."""
        return replace(
            self,
            shortest=self.shortest if shortest is None else shortest,
            longest=self.longest if longest is None else longest,
        )


STYLES: dict[Style, Shake] = {
    "shake": Shake(),
    "handheld": Shake(shortest=3.0, longest=28.0, noise=0.004),
    "video": Shake(shortest=3.0, longest=45.0, jitters=(0.0, 0.05), noise=0.002, wander=0.1, moving=0.5, encoded=True),
}
"""shake: a hand-held photograph, from hardly visible to hopeless. handheld: the shakes that people's photographs have, with
little noise. video: frames of a high-speed camera averaged, as GoPro's ``blur`` was made (Nah et al., CVPR 2017): nearly
straight tracks, things that move on their own, hardly any noise."""
