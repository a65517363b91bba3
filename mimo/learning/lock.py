"""One process at a time writes into a run's folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mimo.errors import OutputError, TrainingError
from mimo.files import cause_of

NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made where it is missing, until the block ends or the process dies, however it dies.

    Afterwards the folder is gone again if nothing was written into it. Raises :class:`TrainingError` when another process
    holds it, :class:`OutputError` when it cannot be written to. A file system without locks gives none.
    """
    made = not folder.exists()
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _acquired(path)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES) and path.exists() and os.access(path, os.W_OK):
            raise TrainingError(
                f"another training is writing into {folder}: wait for its end, stop it, or choose another folder."
            ) from error
        raise OutputError(f"{path} could not be written: {cause_of(error)}") from error
    try:
        yield
    finally:
        # While it is still held: whoever opened it in between sees that the name has gone, and opens it anew.
        with suppress(OSError):
            path.unlink()
        os.close(handle)
        if made:
            with suppress(OSError):
                folder.rmdir()


def _acquired(path: Path) -> int:
    import fcntl

    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
                return handle
            os.close(handle)
            raise
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)
