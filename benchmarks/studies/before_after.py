"""The picture in the README: ``python -m benchmarks.studies.before_after [MODEL]``.

Photographs that no weights here were trained on, shaken as a hand does; the photographs, the length of the shake and the
seed were chosen before any result was looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.studies.shakes import judge, shaken_crops
from engines.runtimes.base import Engine, restore
from engines.runtimes.opening import open_engine
from mimo.bundled import GRAPHS, WEIGHTS
from mimo.images import Photo, write_photo
from mimo.learning.datasets import Samples

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
LENGTH, SIDE, GAP = 10.0, 320, 6
"""Pixels: of the shake, of a crop, and of white between two."""


def rows(engine: Engine, crops: Sequence[tuple[Samples, Samples]]) -> Samples:
    """A row for each pair of a blurry and a sharp crop, (S,S,3): blurry, restored, sharp; white between them."""
    lines = []
    for blur, sharp in crops:
        x = np.ascontiguousarray(blur.transpose(2, 0, 1), np.float32)[None] / np.float32(255)
        result = np.rint(restore(engine, x)[0].clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
        upright = np.full((blur.shape[0], GAP, 3), 255, np.uint8)
        lines.append(np.concatenate([blur, upright, result, upright, sharp], axis=1))
    between = np.full((GAP, lines[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for line in lines for part in (line, between)][:-1])


def main(
    model: Annotated[Path, typer.Argument(help="By default the bundled network.")] = GRAPHS[WEIGHTS.stem],
    photographs: Annotated[Path, typer.Option(help="A folder of sharp photographs.")] = FOLDER / "sharp",
    out: Annotated[Path, typer.Option(help="The picture to write.")] = FOLDER / "before-after.jpg",
) -> None:
    """Write the picture and print what each photograph gains."""
    paths = sorted(photographs.glob("*.jpg"))
    crops = list(shaken_crops(paths, LENGTH, SIDE))
    with open_engine(model) as engine:
        picture = rows(engine, crops)
        for path, (blurry, restored) in zip(paths, judge(engine, crops), strict=True):
            typer.echo(f"{path.stem}: {blurry:.2f} dB shaken, {restored:.2f} dB restored")
    write_photo(out, Photo(picture, None))


if __name__ == "__main__":
    typer.run(main)
