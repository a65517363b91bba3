"""Pictures as inline SVG that stretch to any width while their text keeps its size.

There is no ``viewBox``: places along the width are percentages and heights are pixels, so on a telephone a picture gets
narrower, not smaller. What cannot be given in percent (many dots, a line) lies in an inner SVG that is stretched, with
strokes that are not. Tick labels stand in the padding of the surrounding ``div``, see ``benchmarks.pages.style``.

Drawn by hand because this was better to look at: matplotlib's SVG of the same chart shrank to unreadable text at 390 pixels
and stayed white in the dark.

Every function returns one ``<figure>`` or ``<div>`` whose SVG has a title and a description. Seconds everywhere.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.pages.gauge_lanes import lanes_of, states_in_words
from benchmarks.pages.labels import LINE, Label, Mark, place
from benchmarks.pages.quantities import digits, duration, html, percent, short, unit_for


@dataclass(frozen=True)
class Axis:
    """From values to fractions of its length, with its ticks."""

    low: float
    high: float
    logarithmic: bool = False

    @classmethod
    def around(cls, values: Iterable[float], *, logarithmic: bool = False, margin: float = 0.06, least: float = 0.0) -> Axis:
        """Holds all ``values`` with a margin. ``least``: not shorter than that, so that noise is not blown up to a wave."""
        seen = list(values)
        low, high = min(seen), max(seen)
        if logarithmic:
            rim = max((high / low) ** margin, 1.25)
            return cls(low / rim, high * rim, True)
        extra = max((high - low) * margin, (least - (high - low)) / 2, abs(high) * 1e-6, 1e-12)
        return cls(low - extra, high + extra)

    def at(self, value: float) -> float:
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """At most ``most`` round values inside."""
        if self.logarithmic and self.high / self.low > 4:
            return self._decades(most)
        for exponent in range(math.floor(math.log10(self.high - self.low)) - 2, 99):
            for factor in (1, 2, 5):
                step = factor * 10.0**exponent
                first, last = math.ceil(self.low / step), math.floor(self.high / step)
                if last - first < most:
                    return [number * step for number in range(first, last + 1)]
        return []

    def _decades(self, most: int) -> list[float]:
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            values = [factor * 10.0**exponent for exponent in exponents for factor in factors]
            inside = [value for value in values if self.low <= value <= self.high]
            if len(inside) <= most:
                return inside
        return inside[:: math.ceil(len(inside) / most)]


@dataclass(frozen=True)
class Point:
    """A network or an artifact in the picture of latency against PSNR; ``lines`` are its label, if it has one."""

    seconds: float
    decibel: float
    lines: tuple[str, ...]
    kind: Literal["measured", "published", "not-latency"]
    hint: str
    group: str = ""
    """Points of one group are joined by a thin line."""


_SHAPES = {
    "measured": '<circle r="5.5"/>',
    "published": '<path d="M0-6.5L6.5 0L0 6.5L-6.5 0Z"/>',
    "not-latency": '<circle r="4.5" stroke-dasharray="2 2"/>',
}


def latency_against_psnr(points: Sequence[Point], names: Mapping[str, str]) -> str:
    """Latency on a logarithmic axis, PSNR upwards; a legend of the marks that occur, named by ``names``."""
    height = 380
    across = Axis.around([point.seconds for point in points], logarithmic=True, margin=0.08)
    up = Axis.around([point.decibel for point in points], margin=0.1, least=1.0)
    kinds = [kind for kind in _SHAPES if any(point.kind == kind for point in points)]
    legend = "".join(
        f'<li><svg aria-hidden="true" width="20" height="20"><svg x="9" y="10" class="mark {kind}">{_SHAPES[kind]}</svg></svg>'
        f"{html(names[kind])}</li>"
        for kind in kinds
    )
    top = 6
    body = []

    def y_of(decibel: float) -> float:
        return height - up.at(decibel) * (height - top)

    body += [_row_line(y_of(tick), short(tick)) for tick in up.ticks()]
    body += [_column_line(across.at(tick), height, duration_tick(tick), top) for tick in across.ticks(5)]
    for group in dict.fromkeys(point.group for point in points if point.group):
        places = sorted(across.at(point.seconds) for point in points if point.group == group)
        level = y_of(next(point.decibel for point in points if point.group == group))
        body.append(f'<line class="join" x1="{_pc(places[0])}" x2="{_pc(places[-1])}" y1="{level:.1f}" y2="{level:.1f}"/>')
    marks = [Mark(across.at(point.seconds), y_of(point.decibel), point.lines) for point in points]
    texts = []
    for point, mark, label in zip(points, marks, place(marks, top, height), strict=True):
        if label is not None:
            end = label.y - 4 if label.y < mark.y else label.y
            if label.leader:
                body.append(f'<line class="leader" x1="{_pc(mark.x)}" x2="{_pc(mark.x)}" y1="{mark.y:.1f}" y2="{end:.1f}"/>')
            texts += [_label(row, line, mark, label) for row, line in enumerate(point.lines)]
    body += [
        f'<svg x="{_pc(mark.x)}" y="{mark.y:.1f}" class="mark {point.kind}">'
        f"{_SHAPES[point.kind]}<title>{html(point.hint)}</title></svg>"
        for point, mark in zip(points, marks, strict=True)
    ]
    body += texts
    told = "; ".join(point.hint for point in points)
    picture = _plot(
        "Latency against PSNR",
        told,
        height,
        body,
        below="latency (logarithmic): left is faster",
        beside="PSNR, dB: up is better",
    )
    return f'<ul class="legend">{legend}</ul>{picture}'


def _label(row: int, line: str, mark: Mark, label: Label) -> str:
    name = "label soft" if row else "label"
    y = label.y + LINE * row
    return (
        f'<text class="{name}" x="{_pc(mark.x)}" dx="{label.dx}" y="{y:.1f}" text-anchor="{label.anchor}">{html(line)}</text>'
    )


def distribution(samples: Sequence[float], median: float, interval: tuple[float, float] | None, name: str) -> str:
    """Every sample as a dot over a box of the quartiles, the median and its interval; outliers in their own colour."""
    across = Axis.around(samples, margin=0.04, least=median * 1e-3)
    low, high = _fences(samples)
    first, third = _quartiles(samples)
    far = [not low <= one <= high for one in samples]
    height, middle = 132, 56
    dots = _swarm([across.at(one) for one in samples], middle, 46)
    body = []
    if interval:
        start, end = map(across.at, interval)
        body.append(f'<rect class="interval" x="{_pc(start)}" width="{_pc(end - start)}" y="4" height="{height - 8}"/>')
    start, end = across.at(first), across.at(third)
    body.append(f'<rect class="box" x="{_pc(start)}" width="{_pc(end - start)}" y="110" height="16"/>')
    body.append(_dots(dots, far))
    body.append(_vertical("median", across.at(median), 4, 128))
    body += [_column_line(across.at(tick), height, duration_tick(tick, samples), height - 5) for tick in across.ticks(4)]
    told = f"{len(samples)} samples from {duration(min(samples))} to {duration(max(samples))}, median {duration(median)}"
    outliers = f", {sum(far)} outliers" if any(far) else ""
    return _plot(
        f"Distribution of {name}",
        told + outliers,
        height,
        body,
        below="latency; band: 95 % interval of the median; box: quartiles",
    )


def in_time(warm_up: Sequence[float], samples: Sequence[float], states: Sequence[Mapping[str, Any]], name: str) -> str:
    """Samples in the order they were taken, warm-up before them, and under them what the machine said between blocks."""
    everything = [*warm_up, *samples]
    up = Axis.around(everything, margin=0.08, least=statistics.median(samples) * 1e-3)
    count = len(everything)
    height = 132
    low, high = _fences(samples)
    far = [False] * len(warm_up) + [not low <= one <= high for one in samples]
    dots = [((index + 0.5) / count, height - up.at(one) * height) for index, one in enumerate(everything)]
    body = []
    if warm_up:
        body.append(f'<rect class="warm" x="0" width="{_pc(len(warm_up) / count)}" y="0" height="{height}"/>')
        body.append('<text class="soft" x="4" y="-5">warm-up</text>')
    body += [_row_line(height - up.at(tick) * height, duration_tick(tick, everything)) for tick in up.ticks(4)]
    body.append(_dots(dots, far))
    lanes, depth = lanes_of(states, len(warm_up), count, height + 12)
    told = f"{len(warm_up)} warm-up calls, then {len(samples)} samples in order. {states_in_words(states)}"
    below = f"{len(samples)} samples in the order they were taken"
    return _plot(f"{name} in order of time", told, height + depth, [*body, *lanes], below=below, frame=height)


@dataclass(frozen=True)
class Bar:
    """One row at a glance: seconds with their interval, and words on how it stands to the baseline."""

    name: str
    seconds: float
    low: float | None
    high: float | None
    said: str = ""
    doubt: str = ""


def latency_bars(bars: Sequence[Bar]) -> str:
    """All rows under each other on one axis that begins at 0; the words above each bar, so that they fit a telephone."""
    longest = max([bar.high or bar.seconds for bar in bars] + [1e-12]) * 1.02
    unit = unit_for([max(longest * 0.02, min(bar.seconds for bar in bars))])
    step, top = 58, 4
    height = top + step * len(bars)
    axis = Axis(0.0, longest)
    ticks = ((tick, f"{short(round(tick / unit.seconds, 6))} {unit.name}") for tick in axis.ticks(5))
    body = [_column_line(axis.at(tick), height, said, top) for tick, said in ticks]
    for row, bar in enumerate(bars):
        y = top + step * row
        words = "; ".join(part for part in (bar.said, bar.doubt) if part)
        said = html(unit(bar.seconds) + (f" ({words})" if words else ""))
        body.append(f'<text class="label" x="0" dx="4" y="{y + 14}">{html(bar.name)}</text>')
        body.append(f'<text class="label soft" x="0" dx="4" y="{y + 30}">{said}</text>')
        width = _pc(max(axis.at(bar.seconds), 0.002))
        body.append(f'<rect class="bar latency" x="0" y="{y + 36}" height="12" width="{width}"/>')
        if bar.low is not None and bar.high is not None:
            low, high = axis.at(bar.low), axis.at(bar.high)
            body.append(f'<line class="whisker" x1="{_pc(low)}" x2="{_pc(high)}" y1="{y + 42}" y2="{y + 42}"/>')
            body += [f'<line class="whisker" x1="{_pc(x)}" x2="{_pc(x)}" y1="{y + 37}" y2="{y + 47}"/>' for x in (low, high)]
    told = "; ".join(f"{bar.name}: {duration(bar.seconds)}" + (f", {bar.said}" if bar.said else "") for bar in bars)
    picture = _plot("Latency of every row", told, height, body, below="latency, from 0: shorter is faster")
    return f'<div class="glance">{picture}</div>'


def pair_bars(returned: float, latency: float, name: str) -> str:
    """The time until the call returned and the latency, on a scale of their own, because their ratio matters."""
    longest = max(returned, latency) or 1.0
    ratio = latency / returned if returned else math.inf
    words = "the same" if 0.95 < ratio < 1.05 else f"{digits(ratio, 2) if ratio < 1e6 else 'over 1000000'}x apart"
    bars = (
        ("returned", returned / longest, f"{duration(returned)} until the call returned: not latency"),
        ("latency", latency / longest, f"{duration(latency)} synchronised: latency ({words})"),
    )
    told = f"{duration(returned)} until the call returned, which is not latency; {duration(latency)} synchronised"
    return _plot(f"Not synchronised and synchronised: {name}", told, 62, _bars(bars), bare=True)


def limit_bars(parts: Sequence[tuple[str, float]], name: str) -> str:
    """Fractions of what was measured to be possible, each with what it is a fraction of; a full bar is the ceiling."""
    bars = [("latency", fraction, f"{percent(fraction)} of {what}") for what, fraction in parts]
    told = "; ".join(text for _, _, text in bars)
    return _plot(f"Fraction of the ceilings: {name}", told, 31 * len(bars), _bars(bars), bare=True)


def _bars(bars: Sequence[tuple[str, float, str]]) -> list[str]:
    """(class, fraction of the width, words above it), one below the other."""
    body = []
    for row, (name, fraction, words) in enumerate(bars):
        y = 31 * row
        body.append(f'<text x="0" y="{y + 12}">{html(words)}</text>')
        body.append(f'<rect class="rest" x="0" y="{y + 17}" height="9" width="100%"/>')
        body.append(f'<rect class="bar {name}" x="0" y="{y + 17}" height="9" width="{_pc(min(max(fraction, 0.003), 1))}"/>')
    return body


def ratio_rounds(
    floor: Sequence[float], ratios: Sequence[float], ratio: float, interval: tuple[float, float], noise: tuple[float, float]
) -> str:
    """A dot a round: how many times longer A took than itself (``floor``), then than B, with the bands around each."""
    up = Axis.around([*floor, *ratios, *interval, *noise, 1.0], margin=0.08, least=0.02)
    height, count = 280, len(floor) + len(ratios)
    split = len(floor) / count

    def y_of(value: float) -> float:
        return height - up.at(value) * height

    def band(name: str, ends: tuple[float, float], x: float, width: float) -> str:
        deep = max(1.0, y_of(ends[0]) - y_of(ends[1]))
        return f'<rect class="{name}" x="{_pc(x)}" width="{_pc(width)}" y="{y_of(ends[1]):.1f}" height="{deep:.1f}"/>'

    dots = [((index + 0.5) / count, y_of(one)) for index, one in enumerate([*floor, *ratios])]
    body = [
        band("noise", noise, 0, 1),
        band("interval", interval, split, 1 - split),
        *(_row_line(y_of(tick), f"{digits(tick, 3)}x") for tick in up.ticks(5)),
        f'<line class="one" x1="0" x2="100%" y1="{y_of(1):.1f}" y2="{y_of(1):.1f}"/>',
        f'<line class="median" x1="{_pc(split)}" x2="100%" y1="{y_of(ratio):.1f}" y2="{y_of(ratio):.1f}"/>',
        _vertical("grid", split, 0, height),
        _dots(dots, [False] * count),
        f'<text class="soft" x="{_pc(split / 2)}" y="{height + 16}" text-anchor="middle">A against itself</text>',
        f'<text class="soft" x="{_pc((1 + split) / 2)}" y="{height + 16}" text-anchor="middle">A against B</text>',
    ]
    told = f"{len(ratios)} rounds; overall {digits(ratio)}, interval {digits(interval[0])} to {digits(interval[1])}"
    return _plot(
        "Ratio of the times in each round",
        told,
        height,
        body,
        beside="time of A / time of B in each round: above 1, B is faster",
    )


def duration_tick(seconds: float, among: Sequence[float] = ()) -> str:
    """A tick's time; with ``among`` in the unit that all ticks of the axis share."""
    if not among:
        unit = unit_for([seconds * 0.1]) if seconds < 1 else unit_for([1])
        return f"{short(round(seconds / unit.seconds, 6))} {unit.name}"
    unit = unit_for([max(among)])
    return f"{short(round(seconds / unit.seconds, 6))} {unit.name}"


def _plot(
    title: str,
    told: str,
    height: float,
    body: Sequence[str],
    *,
    below: str = "",
    beside: str = "",
    bare: bool = False,
    frame: float = 0,
) -> str:
    """The SVG in its box. ``bare``: without axes, so without padding for their labels."""
    rim = "" if bare else f'<rect class="frame" width="100%" height="{frame or height}"/>'
    head = f'<p class="axis">{html(beside)}</p>' if beside else ""
    foot = f'<p class="axis">{html(below)}</p>' if below else ""
    return (
        f'{head}<div class="{"bars" if bare else "plot"}"><svg role="img" width="100%" height="{height}">'
        f"<title>{html(title)}</title><desc>{html(told)}</desc>{rim}{''.join(body)}</svg></div>{foot}"
    )


def _pc(fraction: float) -> str:
    return f"{100 * fraction:.2f}%"


def _row_line(y: float, text: str) -> str:
    return (
        f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="-6" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _column_line(x: float, height: float, text: str, top: float) -> str:
    return (
        f'<line class="grid" x1="{_pc(x)}" x2="{_pc(x)}" y1="{top}" y2="{height}"/>'
        f'<text class="tick" x="{_pc(x)}" y="{height + 16}" text-anchor="middle">{text}</text>'
    )


def _vertical(name: str, x: float, top: float, bottom: float) -> str:
    return f'<line class="{name}" x1="{_pc(x)}" x2="{_pc(x)}" y1="{top}" y2="{bottom}"/>'


def _dots(dots: Sequence[tuple[float, float]], far: Sequence[bool]) -> str:
    """Dots of a fixed size in a stretched picture: lines of no length with round ends."""
    bottom = math.ceil(max(y for _, y in dots)) + 1
    paths = []
    for name, outlier in (("dot", False), ("dot far", True)):
        # At most one dot at a place: a hundred thousand samples fill no more than that.
        steps = "".join(
            dict.fromkeys(f"M{1000 * x:.0f} {y:.1f}h0" for (x, y), one in zip(dots, far, strict=True) if one == outlier)
        )
        if steps:
            paths.append(f'<path class="{name}" d="{steps}"/>')
    return f'<svg viewBox="0 0 1000 {bottom}" preserveAspectRatio="none" width="100%" height="{bottom}">{"".join(paths)}</svg>'


def _swarm(places: Sequence[float], middle: float, reach: float) -> list[tuple[float, float]]:
    """Dots that would lie on each other one above the other instead, around ``middle``, at most ``reach`` away from it."""
    columns: dict[int, int] = {}
    order = []
    for x in places:
        column = math.floor(x * 56)
        columns[column] = columns.get(column, 0) + 1
        order.append(columns[column] - 1)
    fullest = max(columns.values())
    step = min(6.0, 2 * reach / max(1, fullest - 1))
    # 0, 1, 2, 3, ... in a column stand at the middle, over it, under it, further over it, ...
    return [(x, middle + step * ((rank + 1) // 2) * (-1 if rank % 2 else 1)) for x, rank in zip(places, order, strict=True)]


def _quartiles(samples: Sequence[float]) -> tuple[float, float]:
    if len(samples) < 2:
        return samples[0], samples[0]
    first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
    return first, third


def _fences(samples: Sequence[float]) -> tuple[float, float]:
    """Outside are the outliers that the summary counts: 3 IQR beyond the quartiles."""
    first, third = _quartiles(samples)
    return first - 3 * (third - first), third + 3 * (third - first)
