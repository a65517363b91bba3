"""The public deblurring datasets, brought into ``{train,val,test}/{blur,sharp}/<scene>_<frame>.png``. No torch here.

Nothing is moved: pictures are hard-linked, or copied where that is impossible. Whole scenes, never single frames, are set
aside for validation: neighbouring frames are nearly the same picture.
"""

from __future__ import annotations

import errno
import filecmp
import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from mimo.errors import DataError, OutputError
from mimo.files import atomic, cause_of, write_json
from mimo.learning.datasets import Watch, found_in, need_folder, need_same_names, not_regular, open_pairs, pictures_in, some

RECORD = "prepared.json"
"""In a prepared folder: from which dataset it was made, with what settings, and what it holds."""

GOPRO_PAIRS = {"train": 2103, "test": 1111}
REALBLUR_PAIRS = {"train": 3758, "test": 980}
HIDE_PAIRS = {"test": 2025}


@dataclass(frozen=True)
class Prepared:
    """What a prepared folder holds now, in pairs."""

    dataset: str
    counts: Mapping[str, int]
    """Pairs by split: ``train``, ``val``, ``test``."""
    expected: Mapping[str, int]
    """What the whole dataset has, ``val`` counted in with ``train``."""
    placed: Mapping[Literal["linked", "copied", "kept"], int]
    """Files by what was done; ``kept`` stood there already."""

    left_out: int = 0
    """Names of pictures in the source that are no regular files: devices, pipes, links that lead nowhere."""

    @property
    def complete(self) -> bool:
        """Whether every split has as many pairs as the published dataset."""
        return all(self._found(split) == number for split, number in self.expected.items())

    def __str__(self) -> str:
        parts = []
        for split, number in self.expected.items():
            aside = self.counts.get("val", 0) if split == "train" else 0
            part = f"{split} {self._found(split)} of {number} pairs"
            parts.append(f"{part} ({aside} of them set aside in val)" if aside else part)
        return (
            f"{self.dataset}: {', '.join(parts)}" + ("." if self.complete else ": this is not the whole dataset.") + self._odd
        )

    @property
    def _odd(self) -> str:
        return f" {self.left_out} names of pictures are no regular files, and were left out." if self.left_out else ""

    def _found(self, split: str) -> int:
        return self.counts.get(split, 0) + (self.counts.get("val", 0) if split == "train" else 0)


@dataclass(frozen=True)
class _Source:
    """A pair in a public dataset's own layout, and the name it gets here."""

    name: str
    scene: str
    blur: Path
    sharp: Path


def prepare_gopro(
    src: Path, dst: Path, *, gamma: bool = False, validation_scenes: int | None = None, watch: Watch | None = None
) -> Prepared:
    """GOPRO_Large's ``{train,test}/<scene>/{blur,blur_gamma,sharp}`` as ``dst/{train,val,test}/{blur,sharp}``.

    Pictures are hard-linked (copied where that is impossible) as ``<scene>_<frame>.png``; ``src`` stays as it is.
    ``gamma`` takes ``blur_gamma`` instead of ``blur``, the linear one that the published numbers use.
    ``validation_scenes``: how many whole scenes, evenly spread over the sorted list, move from train to val; a tenth by
    default (2 of GOPRO_Large's 22), 0 for the authors' full training set.

    Run again after an interruption, it finishes what is missing. Raises :class:`DataError` when ``src`` is laid out
    differently or ``dst`` was prepared with other settings, :class:`OutputError` when a file cannot be written.

    Source: S. Nah et al., "Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring", CVPR 2017.
    """
    splits: dict[str, list[_Source]] = {}
    for split in ("train", "test"):
        splits[split] = []
        root = need_folder(src / split, src, ("train", "test"), what="GOPRO_Large with train/ and test/")
        for scene in sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
            sides = ("blur_gamma" if gamma else "blur", "sharp")
            blur, sharp = (pictures_in(need_folder(scene / side, scene, sides)) for side in sides)
            need_same_names(scene, blur, sharp, *sides)
            splits[split] += [_Source(f"{scene.name}_{name}", scene.name, blur[name], sharp[name]) for name in blur]
        if not splits[split]:
            raise DataError(f"{root} holds no scenes: expected folders such as GOPR0372_07_00 with blur/ and sharp/.")
    _set_aside(splits, validation_scenes)
    made_from = {"dataset": "GOPRO_Large", "gamma": gamma, "validation_scenes": validation_scenes}
    return _place(made_from, splits, dst, GOPRO_PAIRS, watch)


def prepare_realblur(
    src: Path,
    dst: Path,
    *,
    subset: Literal["J", "R"] = "J",
    validation_scenes: int | None = None,
    watch: Watch | None = None,
) -> Prepared:
    """RealBlur-J or -R by the dataset's own lists, as ``dst/{train,val,test}/{blur,sharp}/<scene>_<number>.png``.

    ``src`` holds ``RealBlur_<subset>_{train,test}_list.txt``, whose lines are ``<gt path> <blur path>`` relative to it,
    and the folders they name. The rest is as for :func:`prepare_gopro`.

    Source: J. Rim et al., "Real-World Blur Dataset for Learning and Benchmarking Deblurring Algorithms", ECCV 2020.
    """
    splits: dict[str, list[_Source]] = {}
    for split in ("train", "test"):
        listed = src / f"RealBlur_{subset}_{split}_list.txt"
        if not listed.is_file():
            raise DataError(f"{listed.name} is expected in {src}; {found_in(src)}")
        splits[split] = [_listed(line, number, listed) for number, line in _lines(listed)]
        if not splits[split]:
            raise DataError(f"{listed} is empty: unpack the dataset again.")
        missing = [path for source in splits[split] for path in (source.sharp, source.blur) if not path.is_file()]
        if missing:
            raise DataError(
                f"{listed.name} names {len(missing)} pictures that are not there, {missing[0]} among them: "
                f"unpack RealBlur-{subset} beside its lists; {found_in(src)}"
            )
    _set_aside(splits, validation_scenes)
    made_from = {"dataset": f"RealBlur-{subset}", "validation_scenes": validation_scenes}
    return _place(made_from, splits, dst, REALBLUR_PAIRS, watch)


def prepare_hide(src: Path, dst: Path, *, watch: Watch | None = None) -> Prepared:
    """HIDE's test pairs as ``dst/test/{blur,sharp}``, under their own names.

    ``src`` is the published layout (``test/test-close-ups``, ``test/test-long-shot`` and all truths in ``GT``), or one
    with ``test/{blur,sharp}``. The rest is as for :func:`prepare_gopro`; HIDE is a test set, nothing is set aside.

    Source: Z. Shen et al., "Human-Aware Motion Deblurring", ICCV 2019.
    """
    test = need_folder(src / "test", src, ("test", "GT"), what="HIDE_dataset with test/ and GT/")
    if (test / "blur").is_dir():
        sources = [_Source(pair.name, pair.scene, pair.blur, pair.sharp) for pair in open_pairs(test)]
    else:
        truths = pictures_in(need_folder(src / "GT", src, ("test", "GT")))
        parts = {part: pictures_in(need_folder(test / part, test, _HIDE_PARTS)) for part in _HIDE_PARTS}
        lonely = [f"{part}/{name}" for part, found in parts.items() for name in found if name not in truths]
        if lonely:
            raise DataError(f"{len(lonely)} pictures of {test} have no truth in {src / 'GT'}: {some(lonely)}.")
        named = [item for found in parts.values() for item in found.items()]
        sources = [_Source(name, PurePosixPath(name).stem, blur, truths[name]) for name, blur in named]
    return _place({"dataset": "HIDE"}, {"test": sources}, dst, HIDE_PAIRS, watch)


_HIDE_PARTS = ("test-close-ups", "test-long-shot")


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a list of pictures: {error}.") from error
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _listed(line: str, number: int, path: Path) -> _Source:
    """The pair on one line of a RealBlur list, ``.../<scene>/gt/gt_1.png .../<scene>/blur/blur_1.png``."""
    columns = [PurePosixPath(column) for column in line.split()]
    if len(columns) != 2 or [column.parent.name for column in columns] != ["gt", "blur"]:
        raise DataError(f"{path}, line {number}: expected '.../gt/gt_N.png .../blur/blur_N.png', found {line.strip()[:120]!r}.")
    if any(column.is_absolute() or ".." in column.parts for column in columns):
        raise DataError(f"{path}, line {number}: {line.strip()[:120]!r} leaves the dataset's folder; take the line away.")
    sharp, blur = columns
    scene, digits = blur.parent.parent.name, re.search(r"\d+$", blur.stem)
    frame = digits[0].zfill(6) if digits else blur.stem
    return _Source(f"{scene}_{frame}{blur.suffix}", scene, path.parent / blur, path.parent / sharp)


def _set_aside(splits: dict[str, list[_Source]], scenes: int | None) -> None:
    """Move whole scenes from ``train`` to ``val``, evenly spread over the sorted list."""
    names = sorted({source.scene for source in splits["train"]})
    number = len(names) // 10 or int(len(names) > 1) if scenes is None else scenes
    if not 0 <= number < len(names):
        raise DataError(f"{number} of {len(names)} training scenes cannot be set aside for validation: at least one must stay.")
    chosen = {names[(2 * place + 1) * len(names) // (2 * number)] for place in range(number)}
    splits["val"] = [source for source in splits["train"] if source.scene in chosen]
    splits["train"] = [source for source in splits["train"] if source.scene not in chosen]


def _place(
    made_from: Mapping[str, object],
    splits: Mapping[str, Sequence[_Source]],
    dst: Path,
    expected: Mapping[str, int],
    watch: Watch | None,
) -> Prepared:
    dataset = str(made_from["dataset"])
    for split, sources in splits.items():
        name, number = Counter(source.name for source in sources).most_common(1)[0] if sources else ("", 0)
        if number > 1:
            raise DataError(f"{dataset}: {number} pairs of {split} would be called {name}: the source holds pictures twice.")
    _same_settings(dst, made_from)
    write_json(dst / RECORD, made_from)

    todo = [
        (source_path, dst / split / side / source.name)
        for split, sources in splits.items()
        for source in sources
        for side, source_path in (("blur", source.blur), ("sharp", source.sharp))
    ]
    placed: Counter[Literal["linked", "copied", "kept"]] = Counter()
    for done, (source_path, target) in enumerate(todo, 1):
        placed[_put(source_path, target)] += 1
        if watch is not None:
            watch(done, len(todo))

    ours = {target for _, target in todo}
    for folder in {target.parent for _, target in todo}:
        if foreign := sorted(path.name for path in pictures_in(folder).values() if path not in ours):
            raise DataError(
                f"{folder} holds {len(foreign)} pictures that are not of {dataset}, take them away: {some(foreign)}."
            )
    counts = {split: len(sources) for split, sources in splits.items() if sources}
    write_json(dst / RECORD, {**made_from, "pairs": counts})
    left_out = sum(len(not_regular(folder)) for folder in {source_path.parent for source_path, _ in todo})
    return Prepared(dataset, counts, expected, placed, left_out)


def _same_settings(dst: Path, made_from: Mapping[str, object]) -> None:
    """Raises :class:`DataError` when ``dst`` was prepared as something else: the two would mix."""
    if not (dst / RECORD).is_file():
        return
    try:
        recorded = json.loads((dst / RECORD).read_text(encoding="utf-8"))
        recorded.pop("pairs", None)
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise DataError(f"{dst / RECORD} is damaged: take {dst} away, or choose another folder.") from error
    if recorded != made_from:
        raise DataError(f"{dst} was prepared with {str(recorded)[:300]}, not {dict(made_from)}: choose another folder.")


def _put(source: Path, target: Path) -> Literal["linked", "copied", "kept"]:
    """Bring ``target`` to ``source``'s content; a target of the same content is done already."""
    source = source.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            if source.samefile(target) or filecmp.cmp(source, target, shallow=False):
                return "kept"
            target.unlink()
        target.hardlink_to(source)
        return "linked"
    except OSError as error:
        # Another disk, a file system without links, too many links, or files of another owner: a copy does as well.
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise OutputError(f"{target} could not be written: {cause_of(error)}") from error
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)
    return "copied"
