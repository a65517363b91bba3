"""Files that are whole or not there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mimo.errors import OutputError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends without an error.

    The temporary name keeps the suffix, for libraries that go by it. On any error the temporary file is removed and
    whatever stood at ``path`` is untouched; an ``OSError`` comes out as :class:`OutputError` with the cause.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile: its files are private, and the umask, which would tell the usual permissions, cannot be read safely
        # while other threads write.
        name = path.with_name(f".{path.stem[:32]}-{secrets.token_hex(4)}{path.suffix}")
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        temporary = name
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path} could not be written: {_cause(error)}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _cause(error: OSError) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return "the disk is full; free some space and run the command again."
        case errno.EFBIG:
            return "the file would be larger than this account may write; raise the limit (ulimit -f) or write elsewhere."
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "no permission to write there; choose another place with --out."
        case errno.EISDIR:
            return "there is a folder of that name; choose another name with --out."
        case errno.ENOTDIR | errno.EEXIST:
            return "part of its path is a file, not a folder; choose another place with --out."
        case _:
            return f"{error.strerror or error}; choose another place with --out."


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically. Raises :class:`OutputError`."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinity are refused (``ValueError``): JSON has none."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
