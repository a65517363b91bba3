"""Reports as Markdown for the README, with the machine above."""

from __future__ import annotations

from benchmarks.bench import speedup
from benchmarks.report import NETWORK_COLUMNS, network_rows
from benchmarks.reports import BenchReport, TableReport


def readme_networks(report: TableReport) -> str:
    """The comparison table in Markdown, with the machine above."""
    context = report.context
    row = next(row for row in report.rows if row.summary)
    lines = [
        f"{report.shape}, {row.engine}, on {context.cores} cores of {context.cpu}, GPU: "
        f"{context.gpu or 'none'}; seconds, \\* where the median did not converge:",
        "",
        f"| network | {' | '.join(NETWORK_COLUMNS)} |",
        f"|{'---|' * (len(NETWORK_COLUMNS) + 1)}",
        *(f"| {' | '.join(cells).replace('*', chr(92) + '*')} |" for cells in network_rows(report)),
    ]
    return "\n".join(lines)


def readme_table(report: BenchReport) -> str:
    """The rows of a bench report, as ``mimo bench --json`` writes it, in Markdown; seconds, with the machine above."""
    context = report.context
    flags = ", ".join(context.cpu_flags)
    lines = [
        f"{report.shape} on {context.cores} cores of {context.cpu} ({flags}), GPU: {context.gpu or 'none'}:",
        "",
        "| file | engine | median | 95 % interval | n | of peak | vs eager PyTorch | checked |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report.rows:
        if (summary := row.summary) is None:
            lines.append(f"| {row.file} | {row.engine} | not run | | | | | {row.verified} |")
            continue
        interval = f"{summary.median_low:.2f}-{summary.median_high:.2f} s" if summary.median_low else "n too small"
        median = f"{summary.median:.2f} s" + ("" if row.converged else " (not converged)")
        faster = speedup(row, report.rows)
        ratio = "-" if faster is None else f"{faster:.2f}x"
        fraction = row.limits.compute_fraction if row.limits else None
        peak = "-" if fraction is None else f"{fraction:.0%}"
        cells = (row.file, row.engine, median, interval, summary.n, peak, ratio, row.verified)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
