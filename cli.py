"""The command line, assembled: each room brings its own commands. Part of mimo.

Exit codes: 0, done and passed; 1, something did not pass or was not done; 2, the command could not be carried out, with one
sentence why; 3, passed as far as this machine can tell; 70, a defect of ours; 130, 143 and 129, ended by Ctrl-C, SIGTERM
and SIGHUP.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

import benchmarks.commands
import engines.commands
import engines.serving.commands
import export.commands
import mimo.commands
import mimo.learning.commands
from mimo.edge import Commands, run
from mimo.spellings import modern, refuse_foreign
from mimo.telemetry import no_telemetry
from mimo.terminal import remark, screen, set_verbosity

app = typer.Typer(
    cls=Commands,
    help="Export, compile, verify and honestly measure image restoration networks, and deblur photographs with them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        screen.print(f"mimo {version('mimo-deblur')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say every step, and the causes behind an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Results and errors only.")] = False,
) -> None:
    set_verbosity(verbose=verbose, quiet=quiet)


for room in (
    export.commands,
    engines.commands,
    engines.serving.commands,
    benchmarks.commands,
    mimo.commands,
    mimo.learning.commands,
):
    app.add_typer(room.app)


def main() -> NoReturn:
    """Run the command line (:func:`mimo.edge.run`)."""
    no_telemetry()
    sys.exit(run(_commands))


def _commands() -> None:
    sys.argv[1:], news = modern(sys.argv[1:])
    if news:
        remark(news)
    refuse_foreign(sys.argv[1:])
    app(prog_name="mimo")


if __name__ == "__main__":
    main()
