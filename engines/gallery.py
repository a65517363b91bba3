"""A page to look at: every picture blurry, restored and, where there is one, sharp. One HTML file, no script."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from engines.evaluation import Evaluation, PictureScore, Scores, Step
from mimo.files import write_text
from mimo.images import preview
from mimo.metrics import DESCRIPTIONS, LABELS, METRICS, Rectangles, text
from mimo.pages import render
from mimo.wording import one_line

_LONGEST_SIDE = 1600
_STRIP = 1 << 20
"""Pixels that are float at a time."""
_QUALITY = 88

Kind = Literal["blurry", "restored", "sharp"]


@dataclass(frozen=True)
class _Picture:
    kind: Kind
    url: str
    """``data:``."""


@dataclass(frozen=True)
class _Slide:
    name: str
    height: int
    width: int
    """Of the picture itself; what is embedded may be smaller."""
    pictures: tuple[_Picture, ...]
    score: PictureScore | None = None


class Gallery:
    """Collects pictures while they are restored and writes them as one page.

    ``limit``: at most so many pictures, evenly spread over all, because every one is embedded (some 200 KB each for
    1280x720). Pictures over 1600 pixels are embedded smaller; the page says both.
    """

    def __init__(self, limit: int = 60) -> None:
        self._limit = limit
        self._slides: list[_Slide] = []

    def add(self, step: Step) -> None:
        """Encode one picture of an evaluation, whose progress this is, unless it has nothing to be compared with."""
        if step.before is not None and self._chosen(step.done, step.total):
            self._add(step.score.name, {"blurry": step.before, "restored": step.after, "sharp": step.truth}, step.score)

    def add_photograph(self, source: Path, done: int, total: int, blurry: Rectangles, restored: Rectangles) -> None:
        """Encode one photograph, number ``done`` (from 1) of ``total``, of which nobody knows the truth."""
        if self._chosen(done, total):
            self._add(source.name, {"blurry": blurry, "restored": restored}, None)

    def write(self, path: Path, evaluation: Evaluation, title: str) -> None:
        """Write the page atomically. Raises :class:`~mimo.errors.OutputError`; whatever stood there is then untouched."""
        summary, protocol = evaluation.overall, evaluation.protocol
        metrics, scenes = METRICS[protocol], evaluation.scenes
        # A table of scenes that holds one picture each would say everything twice.
        by_scene = scenes if 1 < len(scenes) < summary.pictures else {}
        self._write(
            path,
            title=title,
            lead=f"{summary.pictures} pictures, protocol {protocol} ({DESCRIPTIONS[protocol]}).{self._shown(summary.pictures)}",
            facts=[*evaluation.method.items(), ("tools", _joined(evaluation.tools))],
            metrics=metrics,
            overall=_numbers(metrics, summary.scores, summary.blurry),
            scenes=[
                (scene, one.pictures, [text(metric, one.scores[metric]) for metric in metrics])
                for scene, one in by_scene.items()
            ],
        )

    def write_photographs(self, path: Path, count: int, title: str, facts: Mapping[str, str]) -> None:
        """Write the page of ``count`` photographs without a truth, as :meth:`write` does."""
        lead = f"{count} {'photograph' if count == 1 else 'photographs'}, before and after.{self._shown(count)}"
        self._write(path, title=title, lead=lead, facts=[*facts.items()], metrics=(), overall=[], scenes=[])

    def _chosen(self, done: int, total: int) -> bool:
        shown = min(self._limit, total)
        return done * shown // total > (done - 1) * shown // total

    def _add(self, name: str, pictures: Mapping[Kind, Rectangles | None], score: PictureScore | None) -> None:
        there = {kind: picture for kind, picture in pictures.items() if picture is not None}
        encoded = tuple(_Picture(kind, _data_url(picture)) for kind, picture in there.items())
        restored = there["restored"]
        self._slides.append(_Slide(one_line(name), restored.height, restored.width, encoded, score))

    def _shown(self, pictures: int) -> str:
        return f" The page shows {len(self._slides)} of them, evenly spread." if len(self._slides) < pictures else ""

    def _write(self, path: Path, *, title: str, metrics: tuple[str, ...], facts: list[tuple[str, str]], **values: Any) -> None:
        shown = {"title": one_line(title), "facts": [(one_line(key), one_line(value)) for key, value in facts]}
        slides = [_slide(number, slide, metrics) for number, slide in enumerate(self._slides, 1)]
        labels = [LABELS[metric] for metric in metrics]
        write_text(path, render("engines", "gallery.html.j2", {**values, **shown, "labels": labels, "slides": slides}))


def _data_url(picture: Rectangles) -> str:
    """A picture as a WebP ``data:`` URL, shrunk to 1600 pixels on its longest side."""
    height, width = picture.height, picture.width
    samples = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        strip = picture.crop(slice(top, top + rows), slice(None))
        samples[top : top + rows] = np.rint(strip * np.float32(255)).transpose(1, 2, 0)
    return "data:image/webp;base64," + base64.b64encode(preview(samples, _LONGEST_SIDE, _QUALITY)).decode()


def _slide(number: int, slide: _Slide, metrics: tuple[str, ...]) -> dict[str, Any]:
    longest = max(slide.height, slide.width)
    return {
        "number": number,
        "name": slide.name,
        "height": slide.height,
        "width": slide.width,
        "smaller": f", shown at {_LONGEST_SIDE / longest:.0%}" if longest > _LONGEST_SIDE else "",
        "pictures": slide.pictures,
        "numbers": _numbers(metrics, slide.score.scores, slide.score.blurry) if slide.score else [],
    }


def _numbers(metrics: tuple[str, ...], after: Scores, before: Scores | None) -> list[tuple[str, str, str, str]]:
    """Label, blurry, restored and the gain, a row a measure."""
    return [
        (
            LABELS[metric],
            text(metric, before[metric]) if before else "",
            text(metric, after[metric]),
            _gain(metric, after[metric] - before[metric]) if before else "",
        )
        for metric in metrics
    ]


def _gain(metric: str, gain: float) -> str:
    # Not a number for a picture without one, and for two equal pictures (infinite less infinite).
    return "" if math.isnan(gain) else f"{gain:+.2f} dB" if "psnr" in metric else f"{gain:+.4f}"


def _joined(tools: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in tools.items())
