"""Which photographs are meant by files and folders, and where their results go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mimo.errors import ImageError, OutputError
from mimo.images import PHOTO_SUFFIXES
from mimo.outputs import identity
from mimo.pictures import pictures_below

_NOT_READ = frozenset({
    ".heic", ".heif", ".hif", ".avif", ".gif", ".bmp", ".jp2", ".jxl", ".psd", ".dng", ".cr2", ".cr3", ".nef",
    ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw",
})  # fmt: skip
"""In lower case: what people keep photographs in that is not read, or not known by this name."""


@dataclass(frozen=True)
class Job:
    """One photograph and where its result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Failure:
    """A photograph for which nothing was written, and the sentence that says why."""

    source: Path
    reason: str


def find_photographs(inputs: Sequence[Path], out: Path, unlisted: list[Failure] | None = None) -> tuple[Job, ...]:
    """The photographs behind ``inputs`` in the order given, folders walked in alphabetical order, each once.

    A file goes to ``out`` under its own name, whatever its suffix; a folder's photographs (by :data:`PHOTO_SUFFIXES`) go
    to the same place below ``out`` that they have below the folder. Hidden files and folders and ``out`` itself are left
    out, and links to folders are not followed. An input that is not there is kept: reading it gives the reason.

    A folder that cannot be listed goes to ``unlisted`` where that is given, and the rest is found.

    Raises :class:`ImageError` when there is none or a folder cannot be listed, :class:`OutputError` when a result would
    overwrite a photograph or two photographs would become the same file.
    """
    jobs: dict[Path, Job] = {}
    sources: dict[object, Path] = {}
    results = identity(out)

    def refuse(folder: Path, error: ImageError) -> None:
        if unlisted is None:
            raise error
        unlisted.append(Failure(folder, str(error)))

    for path in inputs:
        below = pictures_below(path, lambda folder: identity(folder) != results, refuse) if _is_folder(path) else [path]
        for source in below:
            job = Job(source, out / (path.name if source is path else source.relative_to(path)))
            taken = jobs.setdefault(job.target, job)
            if identity(taken.source) != identity(source):
                raise OutputError(
                    f"{taken.source} and {source} would both be written to {job.target}: run twice, into two folders."
                )
            sources[identity(source)] = source
    if not jobs and not unlisted:
        raise ImageError(
            f"no photographs in {', '.join(map(str, inputs)) or 'what was given'}: files ending in "
            f"{', '.join(sorted(PHOTO_SUFFIXES))} are looked for."
        )
    for target in jobs:
        if overwritten := sources.get(identity(target)):
            raise OutputError(f"{target} would overwrite the photograph {overwritten}: choose another folder for the results.")
    return tuple(jobs.values())


def left_out(inputs: Sequence[Path], out: Path) -> tuple[Path, ...]:
    """The pictures in the folders among ``inputs`` that :func:`find_photographs` passes over, by :data:`_NOT_READ`.

    Folders that cannot be listed are passed over too.
    """
    results = identity(out)
    found: dict[Path, None] = {}
    for folder in filter(_is_folder, inputs):
        below = pictures_below(folder, lambda place: identity(place) != results, lambda place, error: None, _NOT_READ)
        found |= dict.fromkeys(below)
    return tuple(found)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # No permission to look: reading it as a file will say so.
        return False
