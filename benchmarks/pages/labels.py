"""Where labels stand in a picture of unknown width, so that they cover neither each other nor the marks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

_WIDTHS = (285, 420, 620, 1150)
"""Pixels between a telephone's and a large screen's; a label has to be clear of the others at all of them."""

LINE = 14
"""Pixels from one line of a label to the next."""
_LETTER = 6.9
"""Pixels of an average letter at 12 pixels, bold, in the widest of the usual fonts."""


@dataclass(frozen=True)
class Mark:
    """A point to be labelled: ``x`` as a fraction of the width, ``y`` in pixels, the label's lines (none: no label)."""

    x: float
    y: float
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Label:
    """The baseline of its first line is at ``y``; it starts, ends or is centred ``dx`` pixels beside the mark."""

    dx: float
    y: float
    anchor: Literal["start", "middle", "end"]
    leader: bool
    """Far enough from its mark to need a line to it."""


_Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def place(marks: Sequence[Mark], top: float, bottom: float) -> list[Label | None]:
    """A label for each mark that has lines: beside it where there is room, else above or below it with a leader.

    Where nothing is free the place that covers least is taken, so every label is shown.
    """
    taken = [[(mark.x * width - 8, mark.y - 8, mark.x * width + 8, mark.y + 8) for mark in marks] for width in _WIDTHS]
    labels: list[Label | None] = []
    for number, mark in enumerate(marks):
        if not mark.lines:
            labels.append(None)
            continue
        best, least = None, math.inf
        for candidate in _candidates(mark):
            cost = sum(
                _cost(_box(mark, candidate, width), (0, top, width, bottom), taken[i], number)
                for i, width in enumerate(_WIDTHS)
            )
            if cost < least:
                best, least = candidate, cost
            if cost == 0:
                break
        assert best is not None
        for boxes, width in zip(taken, _WIDTHS, strict=True):
            boxes.append(_box(mark, best, width))
        labels.append(best)
    return labels


def _candidates(mark: Mark) -> Iterator[Label]:
    """From the best to the worst."""
    middle = mark.y + 4 - LINE * (len(mark.lines) - 1) / 2
    yield Label(11, middle, "start", leader=False)
    yield Label(-11, middle, "end", leader=False)
    yield Label(0, mark.y - 12 - LINE * (len(mark.lines) - 1), "middle", leader=False)
    yield Label(0, mark.y + 22, "middle", leader=False)
    for step in range(1, 24):
        for away in (-8 * step, 8 * step):
            far = abs(away) > 14
            yield Label(11 if not far else 4, middle + away, "start", leader=far)
            yield Label(-11 if not far else -4, middle + away, "end", leader=far)


def _box(mark: Mark, label: Label, width: float) -> _Box:
    long = max(map(len, mark.lines)) * _LETTER
    left = mark.x * width + label.dx - {"start": 0.0, "middle": long / 2, "end": long}[label.anchor]
    return left, label.y - 11, left + long, label.y + 4 + LINE * (len(mark.lines) - 1)


def _cost(box: _Box, picture: _Box, taken: Sequence[_Box], own: int) -> float:
    """Square pixels covered, of marks (all but the ``own``), of labels and of what lies outside the picture."""
    covered = sum(_common(box, other) for index, other in enumerate(taken) if index != own)
    over = [max(0.0, picture[0] - box[0]), max(0.0, picture[1] - box[1])]
    # On the right there is room for a letter or two.
    over += [max(0.0, box[2] - picture[2] - 12), max(0.0, box[3] - picture[3])]
    return covered + 30 * sum(over)


def _common(one: _Box, other: _Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0
