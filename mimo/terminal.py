"""What the commands share: the screen, progress, exit codes, and the options that several of them take.

Results go to standard output (``screen``), progress and remarks to standard error (``notes``). Light: nothing heavy is
imported here but inside functions.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mimo.errors import ArtifactError, MimoError
from mimo.formats import artifacts_in, files_of
from mimo.installing import install
from mimo.wording import literal, one_line, shortened, without_controls

if TYPE_CHECKING:
    from mimo.artifact import Artifact


class _Screen(Console):
    """A console on which text moves nothing and ``:name:`` stays what it is."""

    def render_str(self, text: str, **style: Any) -> Text:
        return super().render_str(without_controls(text), **style)


# Rich takes 80 columns where there is no terminal; a log has room for the tables. (Python has no stream where the shell
# closed it.)
screen = _Screen(highlight=False, emoji=False, width=None if sys.stdout is not None and sys.stdout.isatty() else 120)
notes = _Screen(stderr=True, highlight=False, emoji=False)

FAILED, REFUSED, NOT_RUN, UNDECIDED, DEFECT = 1, 2, 3, 4, 70
"""Exit codes: something did not pass; the command could not be carried out; passed as far as this machine can tell; a gate
that the noise leaves open; a defect of this project (``EX_SOFTWARE`` of sysexits.h)."""

SECONDS_BETWEEN_LINES = 10.0
"""Off a terminal, where there is no bar, long work says a line this often."""

DeviceChoice = Literal["auto", "cpu", "cuda"]
ProtocolChoice = Literal["mimo", "uint8", "realblur"]

Against = Annotated[
    Path | None,
    typer.Option(help="The checkpoint to compare with; by default the bundled weights.", show_default=False),
]
Images = Annotated[Path | None, typer.Option(help="A folder of photographs; by default the bundled ones.", show_default=False)]
JsonOut = Annotated[
    Path | None, typer.Option("--json", writable=True, help="JSON file to write the results to.", show_default=False)
]


class Verbosity:
    """How much is said on standard error: ``quiet`` errors only, ``verbose`` every step and the causes of an error."""

    quiet = False
    verbose = False


def set_verbosity(*, verbose: bool, quiet: bool) -> None:
    """Called once, before a command starts. Raises :class:`MimoError` when both are asked for."""
    if verbose and quiet:
        raise MimoError("--verbose and --quiet exclude each other: leave one out.")
    Verbosity.verbose, Verbosity.quiet = verbose, quiet


def remark(text: str) -> None:
    """A line on standard error, in which nothing is markup; silent under ``--quiet``."""
    if not Verbosity.quiet:
        notes.print(one_line(text), markup=False, soft_wrap=True)


def say(text: str) -> None:
    """A line of results on standard output, in which nothing is markup."""
    screen.print(one_line(text), markup=False, soft_wrap=True)


def report_failure(what: str, reason: str) -> None:
    """One line on standard error for one of many things that was not done; the rest is."""
    notes.print(f"[red]not done[/red] {literal(shortened(f'{what}: {reason}'))}", soft_wrap=True)


def report_error(error: BaseException) -> None:
    """The one sentence of an error; its causes as well under ``--verbose``."""
    sentence, *details = map(str, error.args or (error,))
    notes.print(f"[red]mimo:[/red] {literal(shortened(sentence))}", soft_wrap=True)
    for line in details:
        notes.print(literal(shortened(line)), soft_wrap=True)
    cause = error.__cause__
    while Verbosity.verbose and cause is not None:
        notes.print(f"  caused by {type(cause).__name__}: {literal(shortened(str(cause)))}", soft_wrap=True)
        cause = cause.__cause__


class _Lines:
    """Progress off a terminal: a line when enough time has passed since the last one, each under ``--verbose``."""

    def __init__(self) -> None:
        self._last, self._said = time.monotonic(), ""

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if text != self._said and (Verbosity.verbose or now - self._last >= SECONDS_BETWEEN_LINES):
            self._last, self._said = now, text
            remark(text)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Say ``what`` is being done, which the yielded function changes: a spinner on a terminal, lines elsewhere."""
    if Verbosity.quiet or Verbosity.verbose or not notes.is_terminal:
        say = _Lines()
        say(what)
        yield say
        return
    with notes.status(Text(one_line(what))) as status:
        yield lambda text: status.update(Text(one_line(text)))


Show = Callable[[str, float, float | None], None]
"""Description, how much is done, and of how much (None: not known yet)."""


@contextmanager
def bar() -> Iterator[Show]:
    """A progress bar on a terminal, a line now and then elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if Verbosity.quiet or not notes.is_terminal:
        say = _Lines()
        yield lambda text, done, of: say(f"{text}: {done:.6g} of {'?' if of is None else f'{of:.6g}'}")
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True) as shown:
        task = shown.add_task("reading", total=None)
        yield lambda text, done, of: shown.update(task, description=one_line(text), completed=done, total=of)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Progress over ``what``, told how many are done of how many."""
    with bar() as show:
        yield lambda done, of: show(what, done, of)


def print_artifact(artifact: Artifact) -> None:
    """One line on what was made, and its receipt and profile where it has them."""
    megabytes = sum(file.stat().st_size for file in files_of(artifact.path)) / 1e6
    screen.print(
        f"[bold]{literal(str(artifact.path))}[/bold]  {megabytes:.1f} MB, {artifact.spec.name}, {artifact.precision}",
        soft_wrap=True,
    )
    if artifact.receipt:
        screen.print(f"  receipt: {artifact.receipt}")
    if artifact.shapes:
        screen.print(f"  profile: {artifact.shapes}")


def print_facts(facts: Mapping[str, str]) -> None:
    """Two columns: names and values."""
    width = max(map(len, facts))
    for name, value in facts.items():
        screen.print(f"{name:<{width}}  {literal(value)}", soft_wrap=True)


def plain(value: Any, key: str = "") -> str:
    """A value of a report as a person reads it; ``key`` says whether it counts bytes."""
    if value is not None and key.endswith("_bytes"):
        return f"{value / 2**30:.2f} GiB"
    if isinstance(value, dict):
        value = [f"{name} {plain(inner, name)}" for name, inner in value.items()]
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else "none" if value is None else str(value)


def need_torch(what: str, extras: str, otherwise: str = "") -> None:
    """Raises :class:`MimoError` with the cure when torch is not installed."""
    from importlib.util import find_spec

    if not find_spec("torch"):
        raise MimoError(f"{what} needs torch: {install(extras)}{otherwise}.")


def given(ctx: typer.Context) -> set[str]:
    """The names of the parameters that stand on the command line."""
    # By name: typer brings its own copy of click in some versions, the enumeration with it.
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def artifacts_here() -> list[Path]:
    """The graphs and engines in the current directory. Raises :class:`ArtifactError` when there is none."""
    found = artifacts_in(Path())
    if not found:
        raise ArtifactError(
            "there is no ONNX file or engine in the current directory: run mimo export --to onnx first, or name a file."
        )
    return found


def plain_table(title: str | None, first: str, *others: str) -> Table:
    """A table without lines: what each row is called in the column ``first``, and numbers to the right in ``others``."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        # The longest word of the heading, or a time in milliseconds, stays on one line.
        table.add_column(name, justify="right", min_width=max(6, *map(len, name.split())) if len(name) > 1 else None)
    return table
