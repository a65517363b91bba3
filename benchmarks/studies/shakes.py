"""What a network gains by the length of the shake: ``python -m benchmarks.studies.shakes WEIGHTS... --photographs DIR``.

Every network sees the same crops of photographs that none was trained on, shaken by each of a few lengths in pixels; 0 is
the photograph itself, where what counts is how little is changed. ``--pairs`` adds a folder of real pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from engines.runtimes.base import Engine, restore
from engines.runtimes.opening import open_engine
from mimo.errors import DataError
from mimo.files import sha256_of, write_json
from mimo.learning.datasets import Photograph, Samples, open_pairs, open_photographs, read_pair, read_photograph
from mimo.learning.shaken import cut, draw_exposure, render
from mimo.learning.styles import STYLES
from mimo.metrics import psnr

LENGTHS = (0.0, 4.0, 8.0, 14.0, 22.0)
SEED = 2024


@dataclass(frozen=True)
class Shaken:
    """The result for one network and one set of pictures. PSNR in dB (protocol ``mimo``, 100 at most), mean over pictures."""

    weights: str
    sha256: str
    pictures: str
    """``N px`` for photographs shaken by as much, or the folder of pairs."""
    count: int
    blurry: float
    restored: float
    lowest_gain: float
    """Of the picture that gains least, which may lose."""

    @property
    def gain(self) -> float:
        """In dB. For 0 px, where the input is the truth, ``restored`` says what is changed and this says nothing."""
        return self.restored - self.blurry


def shaken_crops(photographs: Sequence[Path], length: float, side: int) -> Iterator[tuple[Samples, Samples]]:
    """Blurry and sharp crop (side, side, 3) of each photograph; the same for every network.

    Raises :class:`~mimo.errors.DataError` for a photograph smaller than ``side``.
    """
    for number, path in enumerate(photographs):
        photograph = read_photograph(Photograph(path.name, path), side)
        draw = np.random.default_rng((SEED, round(length * 100), number))
        shake = STYLES["handheld"].between(length, length) if length else replace(STYLES["handheld"], noise=0.0)
        exposure = draw_exposure(draw, *photograph.shape[:2], patch=side, shake=shake, sharp=float(length == 0))
        yield render(cut(photograph, exposure), exposure, side)


def judge(engine: Engine, crops: Sequence[tuple[Samples, Samples]]) -> NDArray[np.float64]:
    """(pictures, 2): PSNR in dB of the input and of the result to the truth, 100 at most."""
    rows = []
    for blur, sharp in crops:
        x, truth = (np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32) / np.float32(255) for picture in (blur, sharp))
        rows.append([min(100.0, psnr(result, truth)) for result in (x, restore(engine, x[None])[0].clip(0, 1))])
    return np.array(rows)


def study(
    weights: Sequence[Path], photographs: Path, pairs: Path | None, *, lengths: Sequence[float], side: int
) -> list[Shaken]:
    """Everything, one network after the other. Raises :class:`~mimo.errors.MimoError` for what cannot be read."""
    paths = [one.path for one in open_photographs(photographs)]
    sets = {f"{length:g} px": list(shaken_crops(paths, length, side)) for length in lengths}
    if pairs is not None:
        sets[pairs.name] = [(_middle(blur, side), _middle(sharp, side)) for blur, sharp in map(read_pair, open_pairs(pairs))]
    results = []
    for path in weights:
        with open_engine(path, device="cpu") as engine:
            for name, crops in sets.items():
                scores = judge(engine, crops)
                blurry, restored = scores.mean(axis=0).tolist()
                lowest = float((scores[:, 1] - scores[:, 0]).min())
                results.append(Shaken(path.name, sha256_of(path), name, len(crops), blurry, restored, lowest))
    return results


def table(results: Sequence[Shaken]) -> str:
    """Markdown: a row for each network, a column for each set; gains in dB, for 0 px the PSNR that is left."""
    columns = list(dict.fromkeys(result.pictures for result in results))
    lines = ["| weights | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in dict.fromkeys((result.weights, result.sha256) for result in results):
        own = {result.pictures: result for result in results if (result.weights, result.sha256) == name}
        cells = [f"{own[c].restored:.1f} dB left" if c == "0 px" else f"{own[c].gain:+.2f}" for c in columns]
        lines.append(f"| {name[0]} ({name[1][:8]}) | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _middle(picture: Samples, side: int) -> Samples:
    height, width = (min(side, length) for length in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def main(
    weights: Annotated[list[Path], typer.Argument(help="Checkpoints, ONNX files or engines.")],
    *,
    photographs: Annotated[Path, typer.Option(help="Sharp photographs that no network was trained on.")],
    pairs: Annotated[Path | None, typer.Option(help="Real pairs: a folder with blur/ and sharp/.")] = None,
    length: Annotated[list[float] | None, typer.Option(help="Pixels of shake; may be given several times.")] = None,
    crop: Annotated[int, typer.Option(help="Side of what is judged, the middle of real pairs.", min=64)] = 256,
    json: Annotated[Path | None, typer.Option(help="Write every result here.")] = None,
) -> None:
    """Judge and say."""
    lengths = length or list(LENGTHS)
    if wrong := [one for one in lengths if not (one == 0 or 1 <= one <= 200)]:
        raise DataError(f"--length must be 0 or from 1 to 200 pixels, got {wrong[0]:g}.")
    results = study(weights, photographs, pairs, lengths=lengths, side=crop)
    if json is not None:
        write_json(json, {"seed": SEED, "crop": crop, "results": [asdict(one) | {"gain": one.gain} for one in results]})
    typer.echo(table(results))


if __name__ == "__main__":
    typer.run(main)
