"""The rim of the command line: what holds for every command, whichever room it is of.

Before a command runs, its texts and paths are checked, and that no output is one of its inputs. Around it, signals clean
up, the standard streams may be closed, full or piped to a reader that goes away, and every error has its exit code.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, get_args

from typer.core import TyperGroup

from mimo.errors import MimoError, OutputError
from mimo.files import cause_of
from mimo.outputs import check_output_folder, check_outputs
from mimo.terminal import DEFECT, REFUSED, notes, report_error
from mimo.wording import one_line, shortened


class Commands(TyperGroup):
    """The root of the commands. An option or argument that is written to says so with ``writable=True``, and a folder with
    ``file_okay=False`` too; every other path is read. :func:`check_parameters` then guards it without a word of its own.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for command in commands_of(self).values():
            command.parse_args = _without_empty(command.parse_args)
            command.invoke = _checked(command)

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        """As typer does it, with messages of bounded length."""
        return _bounded(lambda: super(Commands, self).make_context(*arguments, **settings))

    def invoke(self, ctx: Any) -> Any:
        """As typer does it, with messages of bounded length."""
        return _bounded(lambda: super(Commands, self).invoke(ctx))


def commands_of(group: Any, name: str = "") -> dict[str, Any]:
    """Every command below ``group`` by its full name, such as ``weights fetch``."""
    found: dict[str, Any] = {}
    for below, command in group.commands.items():
        full = f"{name} {below}".strip()
        found |= commands_of(command, full) if hasattr(command, "commands") else {full: command}
    return found


def check_parameters(command: Any, values: dict[str, Any]) -> None:
    """Raise :class:`MimoError` for a path that cannot be looked at, :class:`OutputError` for an output that is an input."""
    outputs: dict[str, Path] = {}
    folders: dict[str, Path] = {}
    inputs: list[Path] = []
    for parameter in command.params:
        name = name_of(parameter)
        given = values.get(parameter.name)
        texts = [value for value in (given if isinstance(given, list | tuple) else [given]) if isinstance(value, str | Path)]
        settings = path_settings(parameter)
        if settings is None:
            continue
        paths = [Path(text) for text in texts]
        if settings.writable:
            (outputs if settings.file_okay else folders).update((name, path) for path in paths)
        else:
            inputs += paths
            if parameter.nargs == 1 and not parameter.multiple:
                _check_input(name, paths)
    check_outputs(outputs, inputs)
    for name, folder in folders.items():
        check_output_folder(name, folder, inputs)


def name_of(parameter: Any) -> str:
    """As a person knows it: ``--json``, or ``SRC`` for an argument."""
    first: str = parameter.opts[0]
    return first if first.startswith("-") else str(parameter.metavar or first).rstrip(".").upper()


def path_settings(parameter: Any) -> Any:
    """What a parameter says of its path (``writable``, ``file_okay``); None for one that is no path."""
    # Older versions of typer have click's type, newer ones a description of their own.
    descriptor = getattr(parameter, "type_descriptor", None)
    if descriptor is not None:
        is_path = descriptor.annotation is Path or Path in get_args(descriptor.annotation)
        return descriptor.parameter_info if is_path else None
    return parameter.type if hasattr(parameter.type, "writable") and hasattr(parameter.type, "file_okay") else None


def _check_input(name: str, paths: list[Path]) -> None:
    """Raise :class:`MimoError` where not even the question whether a file is there has an answer."""
    for path in paths:
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue  # the command says it, and may know names that are no files
        except OSError as error:
            raise MimoError(f"{name} {path} cannot be read ({error.strerror}): check the name and the permissions.") from error


def _without_empty(parse: Callable[[Any, list[str]], Any]) -> Callable[[Any, list[str]], Any]:
    """Refuse an empty value before it is read: as a path it would be the current directory."""

    def parse_args(ctx: Any, args: list[str]) -> Any:
        for before, value in itertools.pairwise(["", *args]):
            option, _, rest = value.partition("=")
            if value == "" or (option.startswith("--") and value == f"{option}=" and not rest):
                name = option or (before if before.startswith("-") else "an argument")
                raise MimoError(f"{name} is empty: give a value, or leave it out.")
        return parse(ctx, args)

    return parse_args


def _checked(command: Any) -> Callable[[Any], Any]:
    invoke = command.invoke

    def checked(ctx: Any) -> Any:
        check_parameters(command, ctx.params)
        return invoke(ctx)

    return checked


def _bounded(parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except Exception as error:
        # Typer brings a copy of click in some versions: its errors are known by what they have.
        message = getattr(error, "message", None)
        if hasattr(error, "format_message") and isinstance(message, str):
            error.message = one_line(shortened(message))  # type: ignore[attr-defined]
        raise


def run(command: Callable[[], object]) -> int:
    """Run ``command`` and return its exit code; every error of ours is one sentence on standard error.

    SIGTERM and SIGHUP end it as Ctrl-C does: whatever is half-written is taken away. Only the main thread can do that.
    """
    guard_streams()
    _end_on_signals()
    try:
        code = _code_of(command)
        sys.stdout.flush()
    except OutputError as error:  # of the flush
        report_error(error)
        code = REFUSED
    return code


def _code_of(command: Callable[[], object]) -> int:
    try:
        command()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else REFUSED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        refusal = _refusal(error)
        if refusal is None:
            return _defect(error)
        report_error(refusal)
        return REFUSED
    return 0


def _refusal(error: Exception) -> MimoError | None:
    """``error`` as a sentence for who can do something about it; None for a defect of ours."""
    if isinstance(error, MimoError):
        return error
    # Python starts a thread with memory from the system, and says no more when there is none.
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't start new thread" in str(error)):
        return MimoError("there is not enough memory: give --tile or a smaller --size, or close other programs.")
    if isinstance(error, OSError) and error.filename is not None and error.errno is not None:
        return MimoError(f"{os.fsdecode(error.filename)} could not be used: {cause_of(error)}")
    return None


def _defect(error: Exception) -> int:
    notes.print("".join(traceback.format_exception(error)), markup=False, soft_wrap=True)
    report_error(
        MimoError(f"a defect of mimo, not of what you gave it ({type(error).__name__}): please report the lines above.")
    )
    return DEFECT


def _end_on_signals() -> None:
    if threading.current_thread() is not threading.main_thread():
        return

    def end(number: int, frame: FrameType | None) -> None:
        # The second one acts as it always does.
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP, and so it stays
            signal.signal(number, end)


def guard_streams() -> None:
    """Make standard output and error streams that never end a command in a traceback (:class:`_Guarded`)."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Closed by the shell (>&-): the next file opened would get this number, and what libraries print.
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, _Guarded):
            setattr(sys, name, _Guarded(stream or io.StringIO(), is_result=name == "stdout"))


class _Guarded:
    """A standard stream. A reader that goes away silences it; a full disk is an :class:`OutputError` for standard output,
    whose text is a result, and silences standard error. What the encoding cannot say is written with backslashes.
    """

    def __init__(self, stream: TextIO, *, is_result: bool) -> None:
        self._stream, self._is_result = stream, is_result
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        with _Survived(self):
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        with _Survived(self):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def silence(self, error: OSError) -> None:
        """From here on nothing is written; what is buffered goes nowhere."""
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        except (OSError, ValueError):
            self._stream = io.StringIO()
        if self._is_result and error.errno != errno.EPIPE:
            raise OutputError(f"standard output could not be written: {cause_of(error)}") from error


class _Survived:
    def __init__(self, stream: _Guarded) -> None:
        self._guarded = stream

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, OSError):
            self._guarded.silence(error)
            return True
        return False
