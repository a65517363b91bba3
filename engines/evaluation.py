"""How much an engine, or anybody's pictures, restores: per picture, per scene and overall, by a named protocol."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from engines.evaluation_report import EvaluationReport, Mean, Picture
from engines.restoration import restored, restored_rot4
from engines.runtimes.base import Engine
from engines.runtimes.opening import artifact_at
from engines.runtimes.table import runtime_info
from mimo.artifact import tool_versions
from mimo.errors import DataError, EngineError, ShapeError
from mimo.files import write_json, write_text
from mimo.formats import hash_of
from mimo.images import photo_size, read_photo, write_photo
from mimo.learning.datasets import Pair, files_of, found_in, open_pairs, pictures_in, some
from mimo.metrics import METRICS, Protocol, Rectangles, Whole, score
from mimo.outputs import identity
from mimo.served import ServedModel
from mimo.wording import one_line

Ensemble = Literal["none", "rot4"]
"""``rot4`` is MIMO-UNet++ when the engine is MIMO-UNet+."""
Scores = Mapping[str, float]
"""Values by the names of :data:`mimo.metrics.METRICS`: dB or similarity. NaN where there is none, see there."""

_METRIC_DISTRIBUTIONS = ("numpy", "scikit-image", "scipy", "opencv-python-headless", "opencv-python")


@dataclass(frozen=True)
class PictureScore:
    """The numbers of one picture, and those of the blurry picture it was made from where that is known."""

    name: str
    scene: str
    scores: Scores
    blurry: Scores | None = None


@dataclass(frozen=True)
class Summary:
    """The mean over pictures of each picture's own value; NaN as soon as one of them has no number."""

    pictures: int
    scores: Scores
    blurry: Scores | None


@dataclass(frozen=True)
class Evaluation:
    """Numbers together with how they were obtained."""

    protocol: Protocol
    pictures: tuple[PictureScore, ...]
    method: Mapping[str, str]
    """Whatever decided the numbers, in words: the folders; for an engine also its name, precision, ensemble and model."""
    tools: Mapping[str, str]
    """Versions of what computed them, by distribution."""

    @property
    def overall(self) -> Summary:
        """Over all pictures, not over scenes: what papers print."""
        return _summary(self.pictures)

    @property
    def scenes(self) -> dict[str, Summary]:
        """By scene, in the order of the names."""
        grouped: dict[str, list[PictureScore]] = {}
        for picture in self.pictures:
            grouped.setdefault(picture.scene, []).append(picture)
        return {scene: _summary(grouped[scene]) for scene in sorted(grouped)}

    @property
    def without_number(self) -> tuple[str, ...]:
        """The pictures that some measure has no number for, such as those that RealBlur's protocol cannot align."""
        return tuple(
            picture.name
            for picture in self.pictures
            if any(math.isnan(value) for value in (*picture.scores.values(), *(picture.blurry or {}).values()))
        )

    def write_json(self, path: Path) -> None:
        """Write everything, atomically. ``null`` stands for no number, ``"inf"`` for the PSNR of equal pictures.

        Raises :class:`~mimo.errors.OutputError`.
        """
        report = EvaluationReport(
            protocol=self.protocol,
            method=dict(self.method),
            tools=dict(self.tools),
            overall=_mean_of(self.overall),
            scenes={scene: _mean_of(summary) for scene, summary in self.scenes.items()},
            pictures=tuple(
                Picture(
                    name=one.name, scene=one.scene, scores=dict(one.scores), blurry=dict(one.blurry) if one.blurry else None
                )
                for one in self.pictures
            ),
        )
        write_json(path, report.to_json())

    def write_csv(self, path: Path) -> None:
        """Write one line per picture, per scene and overall, told apart by the first column; an empty cell is no number.

        Raises :class:`~mimo.errors.OutputError`.
        """
        metrics = METRICS[self.protocol]
        text = io.StringIO(newline="")
        lines = csv.writer(text)
        lines.writerow(["level", "name", "scene", "pictures", *metrics, *(f"blurry_{metric}" for metric in metrics)])

        def line(level: str, name: str, scene: str, summary: Summary) -> None:
            values = [summary.scores[metric] for metric in metrics]
            values += [summary.blurry[metric] if summary.blurry else math.nan for metric in metrics]
            lines.writerow(
                [
                    level,
                    one_line(name),
                    one_line(scene),
                    summary.pictures,
                    *("" if math.isnan(value) else value for value in values),
                ]
            )

        for picture in self.pictures:
            line("picture", picture.name, picture.scene, _summary([picture]))
        for scene, summary in self.scenes.items():
            line("scene", scene, scene, summary)
        line("overall", "", "", self.overall)
        write_text(path, text.getvalue())


@dataclass(frozen=True, eq=False)
class Step:
    """What is told after each picture: how far it is, its numbers, and the picture before and after."""

    done: int
    total: int
    score: PictureScore
    before: Rectangles | None
    """The blurry picture; None when only results are scored."""
    after: Rectangles
    """The picture that was scored, in [0,1]."""
    truth: Rectangles | None = None
    """The sharp picture it was scored against."""


Progress = Callable[[Step], None]


def evaluate(
    engine: Engine,
    data: Path,
    *,
    ensemble: Ensemble = "none",
    protocol: Protocol = "mimo",
    save_dir: Path | None = None,
    model: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Restore ``data/blur`` and score it against ``data/sharp``, the blurry pictures beside it.

    ``data`` may also be a prepared dataset: then its ``test`` is taken. ``save_dir`` receives the restored pictures as
    PNG files of the blurry ones' names; those stay when a later picture fails. ``model`` is the file that ``engine`` was
    opened from; its name and hash are recorded. Large pictures run in tiles that give the same pixels as the whole.

    Raises :class:`DataError` or :class:`~mimo.errors.ImageError` before anything is restored when a picture has no
    partner, another size than it, or a header that cannot be read, or when ``save_dir`` is one of the dataset's own
    folders; :class:`EngineError` when the engine returns a value
    that is not finite; and what ``engine`` raises.
    """
    if not (data / "blur").is_dir() and (data / "test" / "blur").is_dir():
        data = data / "test"
    pairs = open_pairs(data)
    _check_sizes(pairs)
    if save_dir is not None:
        _check_save(save_dir, data, pairs)
    method = {
        "data": str(data),
        "engine": engine.name,
        "runtime": engine.runtime,
        "device": engine.device,
        "compute": engine.compute,
        "threads": "-" if engine.threads is None else str(engine.threads),
        "ensemble": ensemble,
    }
    if model is not None:
        method |= {
            "model": model.name,
            "model_sha256": artifact_at(model).sha256 if isinstance(model, ServedModel) else hash_of(model),
        }
    pictures = []
    for pair in pairs:
        blurry, sharp = read_photo(pair.blur), read_photo(pair.sharp)
        try:
            result = (restored_rot4 if ensemble == "rot4" else restored)(engine, blurry)
        except (EngineError, ShapeError) as error:
            raise type(error)(f"{pair.blur}: {error}") from error
        after = Whole(np.clip(result, 0, 1, out=result))
        pictures.append(PictureScore(pair.name, pair.scene, score(after, sharp, protocol), score(blurry, sharp, protocol)))
        if save_dir is not None:
            write_photo(_saved_as(save_dir, pair), blurry, after.pixels)
        if progress is not None:
            progress(Step(len(pictures), len(pairs), pictures[-1], blurry, after, sharp))
    tools = tool_versions(*_METRIC_DISTRIBUTIONS, *runtime_info(engine.runtime).distributions)
    return Evaluation(protocol, tuple(pictures), method, tools)


def score_folders(pred_dir: Path, truth_dir: Path, protocol: Protocol = "mimo", progress: Progress | None = None) -> Evaluation:
    """Score the pictures of ``pred_dir`` against those of ``truth_dir`` of the same name, whatever their format.

    Raises :class:`DataError` when either has a picture that the other has not, or of another size: a mean over some of
    the pictures is not the number that was asked for. :class:`~mimo.errors.ImageError` for one that cannot be read.
    """
    predictions, truths = _by_stem(pred_dir), _by_stem(truth_dir)
    if lonely := sorted(predictions.keys() ^ truths.keys()):
        raise DataError(
            f"{len(lonely)} pictures are in only one of {pred_dir} ({len(predictions)}) and {truth_dir} ({len(truths)}), "
            f"the two must hold the same: {some(lonely)}."
        )
    pairs = [Pair(path.name, path, truths[stem]) for stem, path in predictions.items()]
    _check_sizes(pairs)
    pictures = []
    for pair in pairs:
        prediction = read_photo(pair.blur)
        pictures.append(PictureScore(pair.name, pair.scene, score(prediction, read_photo(pair.sharp), protocol)))
        if progress is not None:
            progress(Step(len(pictures), len(pairs), pictures[-1], None, prediction))
    method = {"predictions": str(pred_dir), "truths": str(truth_dir)}
    return Evaluation(protocol, tuple(pictures), method, tool_versions(*_METRIC_DISTRIBUTIONS))


def _by_stem(folder: Path) -> dict[str, Path]:
    """The pictures of ``folder`` by name without suffix, sorted. Raises :class:`DataError`."""
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of pictures; {found_in(folder)}")
    found: dict[str, Path] = {}
    for name, path in pictures_in(folder).items():
        if path.stem in found:
            raise DataError(f"{folder} holds {found[path.stem].name} and {name}: keep one of the two.")
        found[path.stem] = path
    if not found:
        raise DataError(f"{folder}: expected pictures; {found_in(folder)}")
    return found


def _check_sizes(pairs: Iterable[Pair]) -> None:
    for pair in pairs:
        ours, theirs = photo_size(pair.blur), photo_size(pair.sharp)
        if ours != theirs:
            raise DataError(
                f"{pair.blur} has {ours[0]}x{ours[1]} pixels and {pair.sharp} {theirs[0]}x{theirs[1]}: "
                "the two must be of one size."
            )


def _check_save(save_dir: Path, data: Path, pairs: Sequence[Pair]) -> None:
    """Raises :class:`DataError` when the results would take the place of the dataset, or of each other."""
    read = {
        identity(path): path for path in (data / "blur", data / "sharp", *(path for pair in pairs for path in files_of(pair)))
    }
    for path in (save_dir, *(_saved_as(save_dir, pair) for pair in pairs)):
        if (taken := read.get(identity(path))) is not None:
            raise DataError(f"{path} is {taken} of the dataset: save the restored pictures in another folder.")
    names = {pair.blur.stem for pair in pairs}
    if len(names) < len(pairs):
        raise DataError(f"{data} holds {len(pairs)} pictures of {len(names)} names: some restored ones would be saved as one.")


def _saved_as(save_dir: Path, pair: Pair) -> Path:
    return (save_dir / pair.name).with_suffix(".png")


def _summary(pictures: Sequence[PictureScore]) -> Summary:
    blurry = [picture.blurry for picture in pictures if picture.blurry is not None]
    return Summary(len(pictures), _mean([picture.scores for picture in pictures]), _mean(blurry) if blurry else None)


def _mean(scores: Sequence[Scores]) -> Scores:
    return {metric: math.fsum(values[metric] for values in scores) / len(scores) for metric in scores[0]}


def _mean_of(summary: Summary) -> Mean:
    return Mean(pictures=summary.pictures, scores=summary.scores, blurry=summary.blurry)
