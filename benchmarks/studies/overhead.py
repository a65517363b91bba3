"""What ``mimo deblur`` costs over inference alone, on a folder of photographs: ``python -m benchmarks.studies.overhead MODEL``.

Inference alone and the whole job alternate in one run, in the order A B B A, on pictures cut from real photographs, so
that a machine that slows down meanwhile slows both; the medians are compared, and every round is shown.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from engines.photographs import deblur_photographs
from engines.runtimes.base import Engine, restore
from engines.runtimes.opening import open_engine
from engines.sample_images import list_photographs
from mimo.bundled import PHOTOGRAPHS
from mimo.images import read_photo, read_rgb, write_photo


@dataclass(frozen=True)
class Overhead:
    """Seconds of each round, in the order measured."""

    photographs: int
    inference: tuple[float, ...]
    whole: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """How many times longer the whole job takes, by the medians of both."""
        return statistics.median(self.whole) / statistics.median(self.inference)


def cut_photographs(folder: Path, count: int, height: int, width: int) -> list[Path]:
    """Write ``count`` pictures of one size into ``folder``, cut at different places out of the shipped photographs."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = list_photographs(PHOTOGRAPHS)
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        photo = read_photo(sources[number % len(sources)])
        top, left = (int(random.integers(0, limit + 1)) for limit in (photo.height - height, photo.width - width))
        pixels = photo.crop(slice(top, top + height), slice(left, left + width))
        path = folder / f"{number:03}.png"
        write_photo(path, type(photo)(photo.quantised(pixels), None))
        paths.append(path)
    return paths


def measure_overhead(engine: Engine, paths: list[Path], rounds: int = 1) -> Overhead:
    """Time inference alone (decoded pictures in memory) and the whole job, twice each in every round."""
    images = [read_rgb(path)[None] for path in paths]
    restore(engine, images[0])  # what the first call compiles and allocates belongs to neither
    times: dict[str, list[float]] = {"inference": [], "whole": []}
    for kind in ("inference", "whole", "whole", "inference") * rounds:
        with tempfile.TemporaryDirectory() as out:
            start = time.perf_counter()
            if kind == "inference":
                for image in images:
                    restore(engine, image)
            else:
                report = deblur_photographs(engine, paths, Path(out))
                if report.failed:
                    raise RuntimeError(f"{report.failed[0].source}: {report.failed[0].reason}")
            times[kind].append(time.perf_counter() - start)
    return Overhead(len(paths), tuple(times["inference"]), tuple(times["whole"]))


def main(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    count: Annotated[int, typer.Option(help="Photographs in the folder.")] = 20,
    height: int = 360,
    width: int = 640,
    rounds: Annotated[int, typer.Option(help="Each has both twice.", min=1)] = 2,
) -> None:
    """Measure and say."""
    with tempfile.TemporaryDirectory() as folder, open_engine(model, device="cpu") as engine:
        measured = measure_overhead(engine, cut_photographs(Path(folder), count, height, width), rounds)
    inference, whole = ([f"{seconds:.1f}" for seconds in times] for times in (measured.inference, measured.whole))
    typer.echo(f"{measured.photographs} photographs of {width}x{height} on {engine.name}")
    typer.echo(f"inference alone: {', '.join(inference)} s; mimo deblur: {', '.join(whole)} s")
    typer.echo(f"overhead: {measured.ratio - 1:+.1%}")


if __name__ == "__main__":
    typer.run(main)
