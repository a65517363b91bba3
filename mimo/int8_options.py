"""The options that say how INT8 is made, as commands take them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from mimo.artifact import Artifact
from mimo.errors import MimoError

Calibrate = Annotated[
    Path | None,
    typer.Option(
        "--calibrate",
        help="For INT8: photographs to calibrate on; by default bundled ones.",
        show_default=False,
    ),
]
MaxPsnrLoss = Annotated[
    float | None,
    typer.Option(
        "--max-psnr-loss", min=0.0, help="For INT8: dB that may be lost against the truth; by default 0.02.", show_default=False
    ),
]
KeepFloat = Annotated[
    str | None,
    typer.Option("--keep-float", help="For INT8: names of convolutions that stay in floating point.", show_default=False),
]


class Gate(TypedDict, total=False):
    """What :func:`export.to_int8.convert_to_int8` takes of these options; what was not given is left to it."""

    calibrate: Path
    max_psnr_loss: float
    keep_float: tuple[str, ...]


def int8_options(calibrate: Path | None, max_psnr_loss: float | None, keep_float: str | None) -> dict[str, object]:
    """By the option's name."""
    return {"--calibrate": calibrate, "--max-psnr-loss": max_psnr_loss, "--keep-float": keep_float}


def gate(int8: bool, calibrate: Path | None, max_psnr_loss: float | None, keep_float: str | None) -> Gate:
    """The options that were given. Raises :class:`MimoError` for one without ``--int8``, and a loss that is not a number."""
    options = int8_options(calibrate, max_psnr_loss, keep_float)
    if not int8 and (given := [name for name, value in options.items() if value is not None]):
        raise MimoError(f"{given[0]} goes with --int8: add it, or leave both out.")
    found = Gate()
    if calibrate is not None:
        found["calibrate"] = calibrate
    if max_psnr_loss is not None:
        if math.isnan(max_psnr_loss):
            raise MimoError("--max-psnr-loss must be a number of dB, got nan.")
        found["max_psnr_loss"] = max_psnr_loss
    if keep_float is not None:
        found["keep_float"] = tuple(name.strip() for name in keep_float.split(",") if name.strip())
    return found


def refuse_graph(source: Artifact, *, fp16: bool, int8: bool, chosen: Gate) -> None:
    """Raises :class:`MimoError` where an engine of the precision asked for is not made from ``source``."""
    name = source.path.name
    if source.precision == "fp16" and int8:
        raise MimoError(f"{name} is an FP16 graph, and INT8 is made from FP32: name the FP32 one.")
    if source.precision == "fp16" and not fp16:
        raise MimoError(f"{name} is an FP16 graph: add --fp16, or name the FP32 one.")
    if source.precision == "int8" and not int8:
        raise MimoError(f"{name} is an INT8 graph: add --int8, or name the FP32 one.")
    if source.precision == "int8" and (fp16 or chosen):
        raise MimoError(f"{name} is an INT8 graph and is built as it is: name the FP32 one to choose otherwise.")
    if source.precision == "mixed" and int8:
        raise MimoError(f"{name} is in mixed precision, and INT8 is made from FP32: name the FP32 one.")
