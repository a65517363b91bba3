"""One hostile input in a forked child: what it came to, however it ended."""

from __future__ import annotations

import faulthandler
import os
import resource
import signal
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mimo.errors import MimoError

Ending = Literal["done", "refused", "traceback", "signal", "over time", "over memory", "code run"]

SECONDS = 20
MEBIBYTES = 1536
"""Beyond what the parent has; more is over memory."""
LONGEST = 2_000
"""Characters of a sentence of refusal."""
CANARY = "canary"
"""A file of this name in the child's folder is left by code that was run."""


@dataclass(frozen=True)
class Outcome:
    """How a child ended; ``detail`` says where."""

    ending: Ending
    detail: str = ""


def in_child(read: Callable[[Path], object], *, seconds: int = SECONDS, mebibytes: int = MEBIBYTES) -> Outcome:
    """Call ``read`` with an empty folder, which is current, in a forked child with limits on its time and memory."""
    with tempfile.TemporaryDirectory(prefix="mimo-fuzz-") as name, tempfile.TemporaryFile() as said:
        folder = Path(name)
        child = os.fork()
        if child == 0:
            _run(read, folder, said.fileno(), seconds, mebibytes)
        _, status, used = os.wait4(child, 0)
        said.seek(0)
        text = said.read().decode("utf-8", "backslashreplace")
        ran = (folder / CANARY).exists()
    ending, _, detail = text.partition("\n")
    if ran:
        return Outcome("code run", detail)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return Outcome("over time" if number == signal.SIGALRM else "signal", signal.Signals(number).name)
    if used.ru_maxrss // 1024 > _resident() + mebibytes or ending == "over memory":
        return Outcome("over memory", f"{used.ru_maxrss // 1024} MiB. {detail}")
    if ending in ("done", "refused", "traceback"):
        return Outcome(ending, detail)  # type: ignore[arg-type]
    return Outcome("signal", f"exit status {status}")


def _run(read: Callable[[Path], object], folder: Path, said: int, seconds: int, mebibytes: int) -> None:
    """Never returns: nothing of the parent's must go on in the child."""
    text = "traceback\nnothing was said"
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):
            os.dup2(null, stream)
        faulthandler.disable()  # pytest's would write elsewhere
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = _virtual() + mebibytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        text = _ending(read, folder)
        signal.alarm(0)
    finally:
        os.write(said, text.encode("utf-8", "backslashreplace"))
        os._exit(0)


def _ending(read: Callable[[Path], object], folder: Path) -> str:
    try:
        read(folder)
    except MimoError as error:
        sentence = str(error)
        if len(sentence) > LONGEST or "Traceback" in sentence:
            return f"traceback\na refusal of {len(sentence)} characters: {sentence[:200]}"
        return f"refused\n{sentence[:200]}"
    except MemoryError:
        return f"over memory\n{traceback.format_exc()[-1500:]}"
    except BaseException:
        return f"traceback\n{traceback.format_exc()[-1500:]}"
    return "done"


def _virtual() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _resident() -> int:
    """In MiB, of the parent."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20
