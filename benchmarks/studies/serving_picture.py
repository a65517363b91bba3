"""The report of :mod:`benchmarks.studies.serving_load` as a picture and as a table."""

from __future__ import annotations

from typing import Any

WIDTH, ROW, LEFT = 720, 34, 150


def picture(report: dict[str, Any]) -> str:
    """SVG: for each load what was restored and what was turned away, and the latencies of what was restored."""
    loads = report["loads"]
    most = max(one["sent_per_second"] for one in loads)
    slowest = max(one["p99"] for one in loads)
    parts, top = [], 46
    for title, draw in (("photographs a second", _rates), ("milliseconds until the answer", _latencies)):
        parts.append(f'<text x="16" y="{top}" class="title">{title}</text>')
        for one in loads:
            top += ROW
            parts.append(f'<text x="16" y="{top}">{one["times_capacity"]:g} x capacity</text>')
            parts += draw(one, top, most if draw is _rates else slowest)
        top += 56
    style = (
        "text{font:14px system-ui,sans-serif;fill:#16202c}.title{font-weight:bold}.done{fill:#2563eb}.away{fill:#c3ccd6}"
        "@media(prefers-color-scheme:dark){text{fill:#e7ecf2}.away{fill:#4a5866}.done{fill:#6ea0ff}}"
    )
    legend = (
        f'<rect class="done" x="{LEFT}" y="{top - 32}" width="14" height="14"/><text x="{LEFT + 20}" y="{top - 20}">restored; '
        f'median</text><rect class="away" x="{LEFT + 160}" y="{top - 32}" width="14" height="14"/>'
        f'<text x="{LEFT + 180}" y="{top - 20}">turned away (429); 99th percentile</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" aria-label="mimo serve under load">'
        f"<style>{style}</style>{''.join(parts)}{legend}</svg>\n"
    )


def _rates(one: dict[str, Any], top: int, most: float) -> list[str]:
    return _bars(top, one["restored_per_second"], one["sent_per_second"], most, "{:.1f} of {:.1f}")


def _latencies(one: dict[str, Any], top: int, most: float) -> list[str]:
    return _bars(top, one["p50"], one["p99"], most, "{:.0f}, {:.0f}")


def _bars(top: int, inner: float, outer: float, most: float, text: str) -> list[str]:
    scale = (WIDTH - LEFT - 130) / most
    return [
        f'<rect class="{name}" x="{LEFT}" y="{top - 14}" width="{max(1.0, value * scale):.1f}" height="18"/>'
        for name, value in (("away", outer), ("done", inner))
    ] + [f'<text x="{LEFT + outer * scale + 8:.0f}" y="{top}">{text.format(inner, outer)}</text>']


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| load | sent a second | restored a second | median | 99th percentile | answers | memory |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in report["loads"]:
        answers = ", ".join(f"{count} x {status}" for status, count in one["statuses"].items())
        lines.append(
            f"| {one['times_capacity']:g} x capacity | {one['sent_per_second']:.1f} | {one['restored_per_second']:.1f} | "
            f"{one['p50']:.0f} ms | {one['p99']:.0f} ms | {answers} | {one['memory_mib']:.0f} MiB |"
        )
    return "\n".join(lines)
