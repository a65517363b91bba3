"""The README's commands exist as written, with these options; what it quotes of the project is what the project has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

import cli
from engines.build import DEFAULT_SHAPES
from engines.verification import TOLERANCES
from mimo.bundled import WEIGHTS
from mimo.images import PHOTO_SUFFIXES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted(ROOT.glob("*/README.md")), *sorted(ROOT.glob("docs/*.md")))
}
EVERYTHING = "\n".join(PAGES.values())
# In code blocks at the start of a line, in the text between backticks.
COMMANDS = sorted(
    {" ".join(found.split()) for found in re.findall(r"(?:^ *|`)(mimo [a-z][^`#]*?)(?=\s*#|`|$)", EVERYTHING, re.MULTILINE)}
)


def test_it_has_commands() -> None:
    assert len(COMMANDS) > 10
    assert {"mimo export --to onnx", "mimo build-engine --fp16", "mimo verify", "mimo bench --sync"} <= set(COMMANDS)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_options_exist(line: str) -> None:
    command = typer.main.get_command(cli.app)
    words = line.split()[1:]
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands"), f"{line}: no such command"
    options = {"--help"} | {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    written = set(re.findall(r"--[a-z0-9-]+", " ".join(words)))
    assert written <= options, f"{line}: {written - options}"


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 200


def test_a_picture_is_in_its_first_screen() -> None:
    assert "![" in "\n".join(README.splitlines()[:20])


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", PAGES[page])
    here = [link for link in links if not link.startswith(("http:", "https:", "mailto:"))]
    assert not [link for link in here if not (ROOT / page).parent.joinpath(link).exists()]


def test_every_page_is_found_from_the_readme() -> None:
    assert not [page for page in PAGES if page.startswith("docs/") and f"]({page})" not in README]


def test_the_two_make_commands_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"\nmake {target} " in README
        assert f"\n{target}: " in makefile
    ci = (ROOT / ".ci" / "run").read_text()
    assert ci.rstrip().endswith("make test")


def test_thresholds_are_those_of_the_code() -> None:
    for precision, tolerance in TOLERANCES.items():
        row = next(line for line in EVERYTHING.splitlines() if line.startswith(f"| {precision} |"))
        error, psnr = row.split("|")[2:4]
        assert float(error) == tolerance.max_error
        assert float(psnr.removesuffix(" dB ")) == tolerance.min_psnr


def test_quotations() -> None:
    assert str(DEFAULT_SHAPES) in EVERYTHING
    for shape, option in ((DEFAULT_SHAPES.min, "--min"), (DEFAULT_SHAPES.opt, "--opt"), (DEFAULT_SHAPES.max, "--max")):
        assert f"{option} {shape}" in EVERYTHING
    assert WEIGHTS.relative_to(ROOT).as_posix() in README
    for suffix in PHOTO_SUFFIXES - {".jpg", ".tif"}:
        assert suffix.removeprefix(".").upper() in EVERYTHING.upper()


def test_measured_figures_are_those_of_the_committed_results() -> None:
    """The table is the one that the committed report gives."""
    from benchmarks.readme import readme_table
    from benchmarks.reports import BenchReport
    from benchmarks.schema import read_report

    results = read_report(ROOT / "benchmarks" / "results" / "cpu-1x720x1280.json")
    assert isinstance(results, BenchReport)
    assert readme_table(results) in EVERYTHING


def test_the_comparison_table_is_that_of_the_committed_results() -> None:
    from benchmarks.readme import readme_networks
    from benchmarks.reports import TableReport
    from benchmarks.schema import read_report

    results = read_report(ROOT / "benchmarks" / "results" / "table-cpu-1x256x256.json")
    assert isinstance(results, TableReport)
    assert readme_networks(results) in EVERYTHING


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda path: path.name)
def test_committed_results_are_whole(path: Path) -> None:
    from benchmarks.schema import read_report

    report = read_report(path)
    if report.kind == "compare":
        from benchmarks.report import comparison_text

        assert all(re.sub(r"\[/?[a-z]*\]", "", line) in EVERYTHING for line in comparison_text(report))
