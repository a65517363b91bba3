"""Before any work: where results go, and that nothing a command reads is among it.

One rule for every command: no output is one of its inputs, and no two outputs are one file. A file is the same whatever
name leads to it: a link, a hard link, another spelling, another letter case where the file system knows none.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mimo.errors import OutputError
from mimo.files import cause_of, is_stream
from mimo.formats import files_of

Identity = tuple[int, int] | str

LONGEST_NAME = 255
"""Bytes of a name on the usual file systems."""

REPORTS = (".json", ".csv", ".html")
"""Endings of what commands write; in a folder of pictures such a file is a former report, which may be written again."""

RECORDS = frozenset({"recipe.json", "prepared.json", "synthesis.json"})
"""Those that belong to a dataset or a run."""


def check_outputs(outputs: Mapping[str, Path | Sequence[Path] | None], inputs: Iterable[Path | None] = ()) -> None:
    """Raise :class:`OutputError` when one of ``outputs`` cannot be written, is one of ``inputs`` or another of ``outputs``.

    ``outputs`` are files to be written, each under the name of the parameter that asked for it; None stands for one that
    was not asked for. Where one parameter asks for several (a graph and its sidecar), all are given. ``inputs`` are files
    and folders that the command reads; of a folder every file in it counts but former reports, and of a file what belongs to
    it too: its sidecar, the weights of an OpenVINO IR. Streams (pipes, devices, ``/dev/stdout``) may be given more than once.
    """
    wanted = [(name, path) for name, given in outputs.items() for path in _paths(given)]
    given = [path for path in inputs if path is not None]
    taken: dict[Identity, tuple[str, Path]] = {}
    for name, path in wanted:
        _check_place(name, path)
        if is_stream(path):
            continue
        same = taken.setdefault(identity(path), (name, path))
        if same != (name, path):
            raise OutputError(f"{name} {path} and {same[0]} {same[1]} are the same file: choose two names.")
    read = {identity(path): path for path in _read_by(given, look_into_folders=any(path.exists() for _, path in wanted))}
    for key, (name, path) in taken.items():
        if key in read:
            raise OutputError(f"{name} {path} would overwrite {read[key]}, which this command reads: choose another name.")


def check_output_folder(name: str, folder: Path | None, inputs: Iterable[Path | None] = ()) -> None:
    """Raise :class:`OutputError` when nothing can be written to ``folder`` or it is one of ``inputs``."""
    if folder is None:
        return
    _check_place(name, folder, is_folder=True)
    if any(path is not None and identity(path) == identity(folder) for path in inputs):
        raise OutputError(
            f"{name} {folder} is a folder that this command reads: choose another, so that nothing is overwritten."
        )


def identity(path: Path) -> Identity:
    """Equal for two paths to one file or folder, whatever links and letter case lead to it; the file need not be there."""
    try:
        status = path.stat()
    except OSError:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino


def _paths(given: Path | Sequence[Path] | None) -> Sequence[Path]:
    return () if given is None else (given,) if isinstance(given, Path) else given


def _check_place(name: str, path: Path, *, is_folder: bool = False) -> None:
    """Raise :class:`OutputError` when it is plain beforehand that ``path`` cannot be written."""
    try:
        status = _status(path)
        place = Path(os.path.realpath(path))
        if status is None:
            # What a dangling link points at is made; so are missing folders.
            place = next(above for above in place.parents if os.path.lexists(above))
            if not place.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "")
        elif stat.S_ISDIR(status.st_mode) != is_folder and (is_folder or stat.S_ISDIR(status.st_mode)):
            raise OSError(errno.ENOTDIR if is_folder else errno.EISDIR, "")
        elif stat.S_ISREG(status.st_mode):
            place = place.parent  # the file is replaced, not written to
        if not os.access(place if place.exists() else path, os.W_OK):
            raise PermissionError(errno.EACCES, "")
    except OSError as error:
        raise OutputError(f"{name} {path} cannot be written: {cause_of(error)}") from error


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _read_by(inputs: Sequence[Path], *, look_into_folders: bool) -> Iterator[Path]:
    """The files behind ``inputs``; those of folders only where an output stands already, for no other can be one of them."""
    for path in inputs:
        if not _is_folder(path):
            yield path
            # The weights of a graph in two files, and what TensorRT-RTX keeps beside an engine.
            yield from files_of(path)[1:]
            yield from (path.with_name(path.name + suffix) for suffix in (".json", ".cache") if _fits(path.name + suffix))
        elif look_into_folders:
            for place, _, names in os.walk(path):
                yield from (Path(place) / name for name in names if not name.endswith(REPORTS) or name in RECORDS)


def _fits(name: str) -> bool:
    return len(os.fsencode(name)) <= LONGEST_NAME


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # no permission to look, or a link that points at itself
        return False
