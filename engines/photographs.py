"""Deblurring a person's photographs: files and folders in, the same tree of the same formats out.

While one photograph runs through the engine, the next is decoded and the one before is encoded, each on a thread of its
own; no more than these three are in memory.
"""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from engines.photograph_files import Failure, Job, find_photographs, left_out
from engines.runtimes.base import Engine
from engines.seams import Seams
from engines.tiles import restored_tiles, tiling_for
from mimo.containers.identify import Format
from mimo.errors import EngineError, ImageError, MimoError, OutOfMemory, OutputError, ShapeError
from mimo.files import cause_of
from mimo.images import (
    Photo,
    Samples,
    check_format,
    check_kind,
    decode_photo,
    encode_photo,
    read_photo,
    write_photo,
)
from mimo.padding import pad_to
from mimo.spec import SMALLEST_SIDE


@dataclass(frozen=True)
class Step:
    """Where the work stands: ``tile`` of ``tiles`` are done of photograph ``index`` (from 0) of the ``count`` to be done."""

    source: Path
    index: int
    count: int
    tile: int
    tiles: int
    exact: bool = True
    """Whether the tiles together equal the whole photograph."""


Progress = Callable[[Step], None]
"""Called on the caller's thread before the first tile of each photograph and after every tile."""


BeforeAndAfter = Callable[[Path, int, int, Photo, Photo], None]
"""Called with each photograph that was restored: its file, its number (from 1) and of how many, before and after."""


@dataclass(frozen=True)
class Note:
    """A photograph that was written, and what of its file besides the pixels could not be kept, in words."""

    source: Path
    lost: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.source}: not kept: {'; '.join(self.lost)}"


@dataclass(frozen=True, eq=False)
class Restored:
    """A restored photograph's file, and what of its source could not be kept, in words."""

    data: bytes
    notes: tuple[str, ...]
    """Also that the tiles were an approximation, and how good it is."""


@dataclass(frozen=True)
class Report:
    """What became of each photograph."""

    done: tuple[Path, ...]
    """The files written, in order."""
    skipped: tuple[Path, ...]
    """Results that were there before."""
    failed: tuple[Failure, ...]
    seconds: float
    """Spent restoring, on the wall clock; decoding and encoding not included."""
    notes: tuple[Note, ...] = ()
    """Of those photographs alone that lost something."""
    left_out: tuple[Path, ...] = ()
    """Pictures in the folders whose formats are not read."""
    seams: Seams | None = None
    """Of the photographs whose tiles are an approximation, how good it is; None when all results are exact."""


def restore_bytes(
    engine: Engine,
    data: bytes,
    name: str = "the photograph",
    format: Format | None = None,
    *,
    tile: int | None = None,
    context: int | None = None,
    strength: float = 1.0,
    step: Callable[[int, int], None] = lambda tile, tiles: None,
) -> Restored:
    """A photograph's file -> that of the restored one, with everything besides the pixels as :func:`encode_photo` keeps it.

    ``name`` is what messages call it; ``format`` is the result's, by default the source's. ``tile`` and ``context`` as in
    ``tiling_for``; ``strength`` from 0 (the source) to 1 (the result) mixes the two; ``step`` is told the tiles done and their
    number, first with none done.

    Raises :class:`ImageError`, :class:`ShapeError`, :class:`EngineError`, and ``ValueError`` for another ``strength``.
    """
    photo = decode_photo(data, name)
    kind = format or photo.format
    assert kind is not None
    # Known now, not after minutes of work.
    check_kind(kind, photo, name)
    seams = Seams()
    photo = restore_photo(engine, photo, tile=tile, context=context, strength=strength, step=step, seams=seams)
    encoded = encode_photo(photo, kind, name)
    return Restored(encoded.data, (*encoded.notes, str(seams)) if seams.photographs else encoded.notes)


def restore_photo(
    engine: Engine,
    photo: Photo,
    *,
    tile: int | None = None,
    context: int | None = None,
    strength: float = 1.0,
    step: Callable[[int, int], None] = lambda tile, tiles: None,
    seams: Seams | None = None,
) -> Photo:
    """``photo`` restored, arguments as in :func:`restore_bytes`.

    Where the network looks at the whole image and it is too large for one tile, tiles are an approximation: ``seams`` takes
    how good it is, and is begun before the first ``step``.

    Its pixels become float a tile at a time: all at once they would be four times the memory. Where it is fully transparent
    it stays as it is, and the network sees the colour of the visible neighbours there. Sides that are shorter than the engine
    takes are continued by reflection, and cut off again.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be from 0 to 1, got {strength}")
    seen = _large_enough(engine, photo.visible())
    tiling = tiling_for(engine, seen.height, seen.width, tile=tile, context=context, approximate=True)
    if seams is not None and not tiling.exact:
        seams.begin(tiling)
    step(0, len(tiling.tiles))
    samples = photo.samples.copy()
    for done, (box, restored) in enumerate(restored_tiles(engine, tiling, seen.crop, seams), 1):
        pixels = restored
        if strength < 1:
            pixels = restored * np.float32(strength) + seen.crop(box.rows, box.columns) * np.float32(1 - strength)
        # Of a continued side only what the photograph has; of a transparent place nothing.
        place = samples[box.rows, box.columns]
        height, width = place.shape[:2]
        new = photo.quantised(pixels)[:height, :width]
        hidden = None if photo.hidden is None else photo.hidden[box.rows, box.columns]
        place[...] = new if hidden is None else np.where(hidden[:, :, None], place, new)
        step(done, len(tiling.tiles))
    return replace(photo, samples=samples)


def _large_enough(engine: Engine, photo: Photo) -> Photo:
    """``photo``, continued to the right and downwards where it is smaller than ``engine`` takes."""
    least = engine.shapes.min if engine.shapes else None
    height = max(photo.height, SMALLEST_SIDE, least.height if least else 0)
    width = max(photo.width, SMALLEST_SIDE, least.width if least else 0)
    if (height, width) == (photo.height, photo.width):
        return photo
    samples = cast(Samples, pad_to(photo.samples.transpose(2, 0, 1), height, width).transpose(1, 2, 0))
    return replace(photo, samples=samples, alpha=None)


def deblur_photographs(
    engine: Engine,
    inputs: Sequence[Path],
    out: Path,
    *,
    tile: int | None = None,
    context: int | None = None,
    strength: float = 1.0,
    overwrite: bool = False,
    progress: Progress | None = None,
    show: BeforeAndAfter | None = None,
) -> Report:
    """Deblur every photograph of :func:`find_photographs` into ``out``; the other arguments as in :func:`restore_bytes`.

    A result gets the time of its photograph, so that both sort alike.

    A result that is there is skipped unless ``overwrite`` or the photograph was changed after it: files appear whole or not
    at all, so what is there is done, and a run that was broken off is taken up by the same command. A photograph that cannot
    be read, restored or encoded is reported and the rest is done.

    Raises what :func:`find_photographs` raises before anything is read, and :class:`OutputError` when a result cannot be
    written, because the next could not be either. After any exception, Ctrl-C included, no thread is left, and what was
    finished stays.
    """
    failed: list[Failure] = []
    jobs = find_photographs(inputs, out, failed)
    finished = set() if overwrite else {job.target for job in jobs if _is_finished(job)}
    skipped = tuple(job.target for job in jobs if job.target in finished)
    todo = [job for job in jobs if job.target not in finished]
    _check_folder(out)
    done: list[Path] = []
    notes: list[Note] = []
    seconds = 0.0
    seams = Seams()

    def finish(job: Job, writing: Future[tuple[str, ...]]) -> None:
        try:
            if lost := writing.result():
                notes.append(Note(job.source, lost))
            done.append(job.target)
        except MemoryError:
            failed.append(Failure(job.source, _NO_MEMORY))
        except OutputError as error:
            if getattr(error.__cause__, "errno", None) not in _OF_ONE_NAME:
                raise
            failed.append(Failure(job.source, str(error)))
        except ImageError as error:
            failed.append(Failure(job.source, str(error)))

    with ThreadPoolExecutor(1, "decode") as decoder, _started(ThreadPoolExecutor(1, "encode")) as encoder:
        pending: tuple[Job, Future[tuple[str, ...]]] | None = None
        for index, (job, reading) in enumerate(_read_ahead(decoder, todo)):

            def step(tile: int, tiles: int, job: Job = job, index: int = index, before: int = seams.photographs) -> None:
                if progress is not None:
                    progress(Step(job.source, index, len(todo), tile, tiles, exact=seams.photographs == before))

            try:
                photo = reading.result()
                begin = time.perf_counter()
                restored = restore_photo(engine, photo, tile=tile, context=context, strength=strength, step=step, seams=seams)
                seconds += time.perf_counter() - begin
                if show is not None:
                    show(job.source, index + 1, len(todo), photo, restored)
            except MemoryError:
                failed.append(Failure(job.source, _NO_MEMORY))
                continue
            except (ImageError, ShapeError, EngineError) as error:
                failed.append(Failure(job.source, _with_cure(error)))
                continue
            if pending is not None:
                finish(*pending)
            pending = job, encoder.submit(_write, job, restored)
        if pending is not None:
            finish(*pending)
    measured = seams if seams.photographs else None
    return Report(tuple(done), skipped, tuple(failed), seconds, tuple(notes), left_out(inputs, out), measured)


_CURE = "choose a smaller tile (--tile 256), or close other programs."
_NO_MEMORY = f"there is not enough memory for it: {_CURE}"

_OF_ONE_NAME = frozenset({errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP})
"""Why one result cannot be written while the next can: what is in the way bears its name."""


def _with_cure(error: MimoError) -> str:
    """The sentence of ``error``; where memory did not suffice, with the cure."""
    if isinstance(error, OutOfMemory):
        said, _, _ = str(error).rpartition(": ")
        return f"{said}: {_CURE}"
    return str(error)


def _started(pool: ThreadPoolExecutor) -> ThreadPoolExecutor:
    """``pool`` with its thread, which starts now, while there is memory for it."""
    pool.submit(int)
    return pool


def _read_ahead(decoder: ThreadPoolExecutor, jobs: Sequence[Job]) -> Iterator[tuple[Job, Future[Photo]]]:
    """Each job with its photograph, of which the one after is being decoded meanwhile."""
    ahead: Future[Photo] | None = None
    for index, job in enumerate(jobs):
        reading = ahead or decoder.submit(_read, job)
        ahead = decoder.submit(_read, jobs[index + 1]) if index + 1 < len(jobs) else None
        yield job, reading


def _read(job: Job) -> Photo:
    photo = read_photo(job.source)
    # Known now, not after minutes of work.
    check_format(job.target, photo)
    return photo


def _is_finished(job: Job) -> bool:
    if not os.path.isfile(job.target):  # noqa: PTH113  a name too long is no error yet
        return False
    try:
        return job.source.stat().st_mtime_ns <= job.target.stat().st_mtime_ns
    except OSError:  # Of a photograph that is gone the result is still there.
        return True


def _write(job: Job, photo: Photo) -> tuple[str, ...]:
    notes = write_photo(job.target, photo)
    with suppress(OSError):  # Not every file system keeps times.
        status = job.source.stat()
        os.utime(job.target, ns=(status.st_atime_ns, status.st_mtime_ns))
    return notes


def _check_folder(out: Path) -> None:
    """Raise :class:`OutputError` when nothing can be written to ``out``: before the work, not after the first photograph."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OutputError(f"{out} cannot be written to: {cause_of(error)}") from error
