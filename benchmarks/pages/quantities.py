"""How seconds, bytes and counts read, and how text from elsewhere becomes part of a page."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape

from mimo.pages import printable

DASH = "\u2013"
"""In place of a number that there is not, and between two."""


@dataclass(frozen=True)
class Unit:
    """One unit for a whole table or axis, so that numbers in it can be compared."""

    name: str
    seconds: float

    def number(self, seconds: float | None) -> str:
        """Four significant digits, without the unit; a dash for None."""
        return DASH if seconds is None else digits(seconds / self.seconds)

    def __call__(self, seconds: float) -> str:
        return f"{self.number(seconds)} {self.name}"


_SECOND, _MILLISECOND, _MICROSECOND = Unit("s", 1), Unit("ms", 1e-3), Unit("µs", 1e-6)


def unit_for(seconds: Iterable[float]) -> Unit:
    """The unit in which the smallest of ``seconds`` still has three digits: s from 0.1 s on, ms from 0.1 ms on, else µs."""
    smallest = min((one for one in seconds if one > 0), default=1.0)
    return _SECOND if smallest >= 0.1 else _MILLISECOND if smallest >= 1e-4 else _MICROSECOND


def duration(seconds: float) -> str:
    """A time on its own, in the unit that suits it: ``31.52 s``, ``12.3 ms``, ``45 µs``."""
    return (_SECOND if seconds >= 1 or seconds == 0 else _MILLISECOND if seconds >= 1e-3 else _MICROSECOND)(seconds)


def digits(value: float, significant: int = 4) -> str:
    """Rounded to so many digits, never in powers of ten: ``32072``, ``12.31``, ``0.001234``."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, significant - 1 - math.floor(math.log10(abs(value))))}f}"


def short(value: float) -> str:
    """As few digits as an axis needs: ``0.25``, ``3``, ``1200``."""
    return f"{value:.6f}".rstrip("0").rstrip(".") if abs(value) < 1e6 else f"{value:.0f}"


def size(count: float) -> str:
    """Bytes in powers of 1024: ``1.34 GiB``."""
    for unit in ("bytes", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{digits(count, 3) if unit != 'bytes' else round(count)} {unit}"
        count /= 1024
    return f"{digits(count, 3)} GiB"


def percent(fraction: float) -> str:
    """``0.6123`` as ``61.2 %``; what is under one percent keeps two digits."""
    return f"{100 * fraction:.1f} %" if abs(fraction) >= 0.01 or fraction == 0 else f"{100 * fraction:.2g} %"


def html(text: object) -> Markup:
    """``text`` for a page or an SVG: markup is escaped, and what cannot be shown or trusted is a replacement sign."""
    return escape(printable(str(text)))
