"""The options of every command that runs engines. Light: the runtimes' names come from their table, nothing is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from engines.runtimes.table import Device as DeviceName
from engines.runtimes.table import Precision as PrecisionName
from engines.runtimes.table import Runtime
from engines.runtimes.threads import threads_for
from mimo.errors import MimoError
from mimo.served import ServedModel, model_path
from mimo.terminal import ProtocolChoice, remark

EngineChoice = Literal["auto", Runtime]
DeviceChoice = Literal["auto", DeviceName]
PrecisionChoice = Literal["auto", PrecisionName]

Engine = Annotated[EngineChoice, typer.Option(help="Runtime to use.")]
OneRuntime = Annotated[EngineChoice, typer.Option(help="Use only this runtime; auto uses every installed one.")]
Device = Annotated[DeviceChoice, typer.Option(help="Device to compute on.")]
Precision = Annotated[
    PrecisionChoice,
    typer.Option(
        help="The arithmetic; auto: bf16 in OpenVINO where the processor has it; in PyTorch fp32 on the CPU and fp16 on CUDA; "
        "else the graph's."
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Threads on the CPU, the same for every runtime; by default the cores this process may use, or OMP_NUM_THREADS.",
        show_default=False,
        min=1,
    ),
]


def chosen_threads(asked: int | None, models: Sequence[Path] = ()) -> int:
    """The number for all engines of a command; a remark on standard error when it leaves cores unused.

    Raises :class:`MimoError` when it is asked for and all of ``models`` are served elsewhere.
    """
    if models and all(isinstance(model, ServedModel) for model in models):
        if asked is not None:
            raise MimoError("--threads is for what runs here, and a server has its own: leave it out.")
        return threads_for().count
    threads = threads_for(asked)
    if threads.remark:
        remark(threads.remark)
    return threads.count


Artifacts = Annotated[
    list[Path] | None,
    typer.Argument(
        help="ONNX files, engines and triton:// URLs; by default all in the current directory.",
        show_default=False,
        parser=model_path,
    ),
]
Protocol = Annotated[
    ProtocolChoice,
    typer.Option(help="mimo: not rounded; uint8: rounded to 8 bits; realblur: brightness and position aligned first."),
]
CsvOut = Annotated[
    Path | None,
    typer.Option(
        "--csv", writable=True, help="CSV file to write: a line per picture, per scene and overall.", show_default=False
    ),
]
PageOut = Annotated[
    Path | None,
    typer.Option("--html", writable=True, help="HTML page to write, with the pictures side by side.", show_default=False),
]
