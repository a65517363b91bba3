"""Which files of a folder are pictures: the one answer for every command."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from mimo.errors import ImageError
from mimo.images import PHOTO_SUFFIXES


def pictures_of(folder: Path) -> list[Path]:
    """The pictures in ``folder``, sorted by name. Raises :class:`ImageError` when it cannot be listed."""
    return [path for path in named_as_pictures(folder) if is_picture(path)]


def named_as_pictures(folder: Path) -> list[Path]:
    """What in ``folder`` has a picture's name, whatever it is, sorted. Raises :class:`ImageError` when it cannot be listed."""
    try:
        return sorted(path for path in folder.iterdir() if _has_its_name(path, PHOTO_SUFFIXES))
    except OSError as error:
        raise _unlisted(folder, error) from error


def pictures_below(
    folder: Path,
    enters: Callable[[Path], bool],
    unlisted: Callable[[Path, ImageError], None] | None = None,
    suffixes: frozenset[str] = PHOTO_SUFFIXES,
) -> Iterator[Path]:
    """The pictures in ``folder`` and its folders, in alphabetical order; hidden folders and links to folders are left out.

    ``enters`` says of each folder below whether to go there. A folder that cannot be listed (``lost+found``) is told to
    ``unlisted`` and the rest goes on; without it :class:`ImageError` is raised.
    """

    def refuse(error: OSError) -> None:
        place = Path(os.fsdecode(error.filename or folder))
        if unlisted is None:
            raise _unlisted(place, error) from error
        unlisted(place, _unlisted(place, error))

    for name, folders, files in os.walk(folder, onerror=refuse):
        here = Path(name)
        folders[:] = sorted(below for below in folders if not below.startswith(".") and enters(here / below))
        yield from (here / file for file in sorted(files) if is_picture(here / file, suffixes))


def is_picture(path: Path, suffixes: frozenset[str] = PHOTO_SUFFIXES) -> bool:
    """Whether a file is one by its name and kind: not hidden (macOS puts ``._a.png`` beside ``a.png``), and no folder, pipe
    or device. A link that leads nowhere counts: reading it tells why.
    """
    if not _has_its_name(path, suffixes):
        return False
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def _has_its_name(path: Path, suffixes: frozenset[str]) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() in suffixes


def _unlisted(folder: Path, error: OSError) -> ImageError:
    return ImageError(f"{folder} cannot be listed ({error.strerror}): check its permissions.")
