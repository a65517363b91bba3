"""A page to look at: every picture before and after under one slider, with its numbers. One HTML file, nothing outside it."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from engines.evaluation import Evaluation, PictureScore, Scores, Step, Summary
from mimo.files import write_text
from mimo.images import preview
from mimo.metrics import DESCRIPTIONS, LABELS, METRICS, Rectangles, text
from mimo.wording import one_line

_LONGEST_SIDE = 1600
_QUALITY = 88
_STRIP = 1 << 20
"""Pixels that are float at a time."""


@dataclass(frozen=True)
class _Slide:
    score: PictureScore
    height: int
    width: int
    """Of the picture itself; what is embedded may be smaller."""
    before: str
    after: str
    """``data:`` URLs."""


class Gallery:
    """Collects pictures while they are evaluated (pass :meth:`add` as the progress) and writes them as one page.

    ``limit``: at most so many pictures, evenly spread over all, because every one is embedded (some 200 KB each for
    1280x720). Pictures over 1600 pixels are embedded smaller; the page says both.
    """

    def __init__(self, limit: int = 60) -> None:
        self._limit = limit
        self._slides: list[_Slide] = []

    def add(self, step: Step) -> None:
        """Encode one picture, unless it is one of those that the limit leaves out or has nothing to compare with."""
        shown = min(self._limit, step.total)
        chosen = step.done * shown // step.total > (step.done - 1) * shown // step.total
        if step.before is None or not chosen:
            return
        height, width = step.after.height, step.after.width
        self._slides.append(_Slide(step.score, height, width, _data_url(step.before), _data_url(step.after)))

    def write(self, path: Path, evaluation: Evaluation, title: str) -> None:
        """Write the page atomically. Raises :class:`~mimo.errors.OutputError`; whatever stood there is then untouched."""
        summary, protocol = evaluation.overall, evaluation.protocol
        left_out = summary.pictures - len(self._slides)
        note = f" The page shows {len(self._slides)} of them, evenly spread." if left_out else ""
        facts = "".join(f"<dt>{_html(key)}</dt><dd>{_html(value)}</dd>" for key, value in evaluation.method.items())
        scenes = evaluation.scenes
        # A table of scenes that holds one picture each would say everything twice.
        scene_table = _scenes(scenes, METRICS[protocol]) if 1 < len(scenes) < summary.pictures else ""
        page = _PAGE.format(
            title=_html(title),
            style=_STYLE,
            script=_SCRIPT,
            lead=f"{summary.pictures} pictures, protocol {protocol} ({DESCRIPTIONS[protocol]}).{note}",
            overall=_table("Overall", METRICS[protocol], summary.scores, summary.blurry),
            scenes=scene_table,
            facts=f"<dl>{facts}<dt>tools</dt><dd>{_html(_joined(evaluation.tools))}</dd></dl>",
            slides="\n".join(_figure(slide, METRICS[protocol]) for slide in self._slides),
        )
        write_text(path, page)


def _data_url(picture: Rectangles) -> str:
    """A picture as a WebP ``data:`` URL, shrunk to 1600 pixels on its longest side."""
    height, width = picture.height, picture.width
    samples = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        strip = picture.crop(slice(top, top + rows), slice(None))
        samples[top : top + rows] = np.rint(strip * np.float32(255)).transpose(1, 2, 0)
    return "data:image/webp;base64," + base64.b64encode(preview(samples, _LONGEST_SIDE, _QUALITY)).decode()


def _figure(slide: _Slide, metrics: tuple[str, ...]) -> str:
    name = _html(slide.score.name)
    shown = max(slide.height, slide.width)
    smaller = f", shown at {_LONGEST_SIDE / shown:.0%}" if shown > _LONGEST_SIDE else ""
    return f"""<figure>
<div class="frame" style="--w:{slide.width};--h:{slide.height}">
<img src="{slide.before}" alt="{name}, blurry" draggable="false"><b>before</b>
<div class="after"><img src="{slide.after}" alt="{name}, restored" draggable="false"><b>after</b></div>
<input type="range" min="0" max="100" step="2" value="50" aria-label="How much of {name} is shown blurry"><i></i>
</div>
<figcaption><h2>{name} <small>{slide.width} &times; {slide.height}{smaller}</small></h2>
{_table(None, metrics, slide.score.scores, slide.score.blurry)}</figcaption>
</figure>"""


def _table(caption: str | None, metrics: tuple[str, ...], after: Scores, before: Scores | None) -> str:
    """Blurry and restored side by side, a row a measure."""
    rows = "".join(
        f"<tr><th>{LABELS[metric]}</th><td>{text(metric, before[metric]) if before else ''}</td>"
        f"<td>{text(metric, after[metric])}</td><td>{_gain(metric, after[metric] - before[metric]) if before else ''}</td></tr>"
        for metric in metrics
    )
    head = "<tr><th></th><th>before</th><th>after</th><th>gain</th></tr>"
    return f"<table>{f'<caption>{caption}</caption>' if caption else ''}{head}{rows}</table>"


def _scenes(scenes: dict[str, Summary], metrics: tuple[str, ...]) -> str:
    head = "".join(f"<th>{LABELS[metric]}</th>" for metric in metrics)
    rows = "".join(
        f"<tr><th>{_html(scene)}</th><td>{summary.pictures}</td>"
        + "".join(f"<td>{text(metric, summary.scores[metric])}</td>" for metric in metrics)
        + "</tr>"
        for scene, summary in scenes.items()
    )
    return f"<details><summary>By scene</summary><table><tr><th>scene</th><th>pictures</th>{head}</tr>{rows}</table></details>"


def _gain(metric: str, gain: float) -> str:
    # Not a number for a picture without one, and for two equal pictures (infinite less infinite).
    return "" if math.isnan(gain) else f"{gain:+.2f} dB" if "psnr" in metric else f"{gain:+.4f}"


def _joined(tools: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in tools.items())


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>{lead} Drag a picture, or focus it and use the arrow keys.</p>
{overall}
{scenes}
<details><summary>How these numbers were obtained</summary>{facts}</details>
</header>
<main>
{slides}
</main>
<script>{script}</script>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.45 system-ui, sans-serif; }
body { margin: 0 auto; padding: 1rem; max-width: 1280px; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1rem; margin: .75rem 0 .25rem; }
h1, h2, dd { overflow-wrap: anywhere; }
small { font-weight: normal; opacity: .7; white-space: nowrap; }
figure { margin: 2.5rem 0; }
.frame {
  --at: 50%; position: relative; overflow: hidden; cursor: ew-resize; user-select: none; touch-action: pan-y;
  aspect-ratio: var(--w) / var(--h); width: min(100%, var(--w) * 1px, 90vh * var(--w) / var(--h));
}
.frame img { position: absolute; width: 100%; height: 100%; }
.frame .after { position: absolute; inset: 0; clip-path: inset(0 0 0 var(--at)); }
.frame b { position: absolute; bottom: .5rem; left: .5rem; padding: 0 .5rem; }
.frame b { border-radius: 1rem; background: #000a; color: #fff; }
.frame .after b { left: auto; right: .5rem; }
.frame input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; pointer-events: none; }
.frame i { position: absolute; top: 0; bottom: 0; left: var(--at); width: 2px; margin-left: -1px; }
.frame i, .frame i::after { background: #fff; color: #000; box-shadow: 0 0 4px #000; }
.frame i::after {
  content: "\\2194\\FE0E"; position: absolute; top: 50%; left: 50%; width: 2.5rem; line-height: 2.5rem; translate: -50% -50%;
  border-radius: 50%; text-align: center; font-style: normal;
}
.frame input:focus-visible + i::after { outline: 4px solid Highlight; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: bold; padding-top: .5rem; }
th, td { padding: .1rem 0 .1rem .75rem; text-align: right; font-weight: normal; }
th:first-child { padding-left: 0; text-align: left; }
td { white-space: nowrap; }
details { margin: .5rem 0; overflow-x: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .5rem 0; }
dd { margin: 0; }
"""

# A range input alone would do for a mouse; phones move its thumb only when the thumb itself is hit, so the frame follows
# the pointer and the input is left to the keyboard and to screen readers.
_SCRIPT = """
for (const frame of document.querySelectorAll(".frame")) {
  const input = frame.querySelector("input");
  const show = at => frame.style.setProperty("--at", at + "%");
  const follow = event => {
    const box = frame.getBoundingClientRect();
    const at = Math.min(100, Math.max(0, 100 * (event.clientX - box.left) / box.width));
    input.value = at;
    show(at);
  };
  input.addEventListener("input", () => show(input.value));
  frame.addEventListener("pointerdown", event => {
    if (event.button !== 0) return;
    frame.setPointerCapture(event.pointerId);
    follow(event);
  });
  frame.addEventListener("pointermove", event => frame.hasPointerCapture(event.pointerId) && follow(event));
  frame.addEventListener("click", () => input.focus({ preventScroll: true }));
}
"""


def _html(text: str) -> str:
    return escape(one_line(text))
