"""Files that are whole or not there."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mimo.errors import OutputError
from mimo.wording import valid_unicode

_TEMPORARY = re.compile(r"\.mimo-(?P<pid>\d+)-(?P<process>[0-9a-f]{8})-[0-9a-f]{8}\.tmp")
"""Temporary files: hidden, and without the suffix of what they become, so that no pattern such as *.onnx finds them."""

_ABANDONED_SECONDS = 24 * 3600
"""Age from which a temporary file counts as left behind where the file system has no locks to tell."""

_NO_FSYNC = frozenset({
    errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS, errno.EBADF, errno.EACCES, errno.EPERM,
})  # fmt: skip
"""What file systems without fsync, or without it for folders, answer. The bytes are written; only the flush is refused."""

_tidied: set[Path] = set()
"""The folders from which this process has taken the temporary files of others."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path that takes the place of ``path`` when the block ends without an error.

    A regular file is replaced in one step and its permissions are kept; a symbolic link stays, and the file it points at
    is replaced. What is no regular file (a pipe, a device, a socket, ``/dev/stdout``) gets the bytes written to it; a
    reader that goes away before the end is no error. Missing folders are made. The first writer in a folder takes away
    the temporary files of processes that were killed there.

    On any error the temporary file is removed and whatever stood at ``path`` is untouched. An ``OSError`` comes out as
    :class:`OutputError` with the cause.
    """
    try:
        stream = is_stream(path)
        target = path if stream else _end_of_links(path)
    except OSError as error:
        raise OutputError(f"{path} could not be written: {cause_of(error)}") from error
    with _streamed(path) if stream else _replaced(path, target) as temporary:
        yield temporary


@contextmanager
def _replaced(path: Path, target: Path) -> Iterator[Path]:
    temporary: Path | None = None
    handle = -1
    try:
        before = _status(target)
        if before is not None and stat.S_ISDIR(before.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        target.parent.mkdir(parents=True, exist_ok=True)
        _take_away_abandoned(target.parent)
        # Not tempfile: its files are private, and the umask, which would tell the usual permissions, cannot be read safely
        # while other threads write.
        name = target.with_name(f".mimo-{os.getpid()}-{_process_token(os.getpid())}-{secrets.token_hex(4)}.tmp")
        handle = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
        temporary = name
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield temporary
        if before is not None:
            _keep_permissions(temporary, before)
        _flush_file(temporary)
        temporary.replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        raise OutputError(f"{path} could not be written: {cause_of(error)}") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        if handle >= 0:
            os.close(handle)


@contextmanager
def _streamed(path: Path) -> Iterator[Path]:
    try:
        with tempfile.TemporaryDirectory(prefix="mimo-") as folder:
            temporary = Path(folder) / "stream"
            temporary.touch()
            yield temporary
            # What was printed before comes first.
            if sys.stdout is not None:
                sys.stdout.flush()
            with temporary.open("rb") as source, suppress(BrokenPipeError), _opened_stream(path) as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
    except OSError as error:
        raise OutputError(f"{path} could not be written: {cause_of(error)}") from error


@contextmanager
def _opened_stream(path: Path) -> Iterator[Any]:
    own = _own_descriptor(path)
    if own is not None:
        # Not opened anew: the position in the file is shared with whoever else writes there, and a socket cannot be opened.
        with os.fdopen(os.dup(own), "wb") as sink:
            yield sink
    elif stat.S_ISSOCK(path.stat().st_mode):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(os.fspath(path))
            with connection.makefile("wb") as sink:
                yield sink
    else:
        with path.open("wb") as sink:
            yield sink


def is_stream(path: Path) -> bool:
    """Whether ``path`` stands for something that is written to rather than replaced: a pipe, a device, an open file.

    Raises ``OSError`` when the system cannot say, as for a link that points at itself.
    """
    if _own_descriptor(path) is not None:
        return True
    status = _status(path)
    return status is not None and not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))


def _own_descriptor(path: Path) -> int | None:
    """The number of the descriptor of this process that ``/dev/stdout``, ``/dev/fd/3`` or a link to one of them names."""
    for _ in range(40):
        if not path.is_symlink():
            return None
        folder = os.path.realpath(path.parent)
        if folder in (f"/proc/{os.getpid()}/fd", f"/proc/{os.getpid()}/task/{os.getpid()}/fd", "/dev/fd"):
            return int(path.name) if path.name.isdecimal() else None
        path = path.parent / path.readlink()
    return None


def _end_of_links(path: Path) -> Path:
    """The file that ``path`` and every symbolic link on the way lead to; it need not be there."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _keep_permissions(temporary: Path, before: os.stat_result) -> None:
    if temporary.stat().st_nlink != 1:
        return  # a hard link to somebody else's file, whose permissions are not ours to change
    with suppress(OSError):  # a file system without owners or without permissions
        if (before.st_uid, before.st_gid) != (temporary.stat().st_uid, temporary.stat().st_gid):
            os.chown(temporary, before.st_uid, before.st_gid)
    with suppress(OSError):
        temporary.chmod(stat.S_IMODE(before.st_mode))


def _flush_file(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDWR)  # SMB flushes through writable handles only
    except PermissionError:
        handle = os.open(path, os.O_RDONLY)
    _flush(handle)


def _flush_folder(folder: Path) -> None:
    """The new name is on the disk too, where the file system can promise it."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return  # a folder that may be written to and not read
    _flush(handle)


def _flush(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(handle)


def _take_away_abandoned(folder: Path) -> None:
    """Remove the temporary files in ``folder`` whose writers are gone, once per folder and process."""
    here = Path(os.path.abspath(folder))  # noqa: PTH100
    if here in _tidied:
        return
    _tidied.add(here)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            parts = _TEMPORARY.fullmatch(entry.name)
            if parts and not _is_alive(int(parts["pid"]), parts["process"]) and _is_abandoned(Path(entry.path)):
                with suppress(OSError):
                    Path(entry.path).unlink()


def _is_abandoned(path: Path) -> bool:
    """Whether nobody holds the lock of a temporary file: its writer may run on another machine or in another container."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            return False
        return time.time() - os.fstat(handle).st_mtime > _ABANDONED_SECONDS
    finally:
        os.close(handle)
    return True


def _is_alive(pid: int, token: str) -> bool:
    return _process_token(pid) == token


def _process_token(pid: int) -> str:
    """Eight digits that tell this process from others of the same number: after a restart, in another container."""
    try:
        # The name in brackets may hold anything; the start time is the 22nd field.
        started = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        facts = f"{boot} {Path('/proc/self/ns/pid').readlink()} {started}"
    except (OSError, IndexError):
        return "0" * 8 if pid == os.getpid() else ""  # no /proc, or no such process; the lock alone tells
    return hashlib.sha256(facts.encode()).hexdigest()[:8]


_CAUSES = {
    errno.ENOSPC: "the disk is full; free some space and run the command again.",
    errno.EDQUOT: "the disk is full; free some space and run the command again.",
    errno.EFBIG: "the file would be larger than this account may write; raise the limit (ulimit -f) or write elsewhere.",
    errno.EACCES: "no permission to write there; choose another place.",
    errno.EPERM: "no permission to write there; choose another place.",
    errno.EROFS: "no permission to write there; choose another place.",
    errno.EISDIR: "there is a folder of that name; choose another name.",
    errno.ENOTDIR: "part of its path is a file, not a folder; choose another place.",
    errno.EEXIST: "part of its path is a file, not a folder; choose another place.",
    errno.ENAMETOOLONG: "the name is longer than the file system takes; choose a shorter one.",
    errno.ELOOP: "a symbolic link in its path points at itself; remove the link or choose another place.",
    errno.ENOENT: "its folder went away meanwhile; make it again or choose another place.",
    errno.ECONNREFUSED: "it is a socket on which nobody listens; choose another place.",
    errno.EPROTOTYPE: "it is a socket of another kind; choose another place.",
}


def cause_of(error: OSError) -> str:
    """The second half of a sentence about something that could not be written: why, and what to do."""
    return _CAUSES.get(error.errno or 0) or f"{error.strerror or error}; choose another place."


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` as :func:`atomic` does. Raises :class:`OutputError`."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, as :func:`atomic` does; bytes of names that are not UTF-8 become ``\\xe9`` and the like."""
    write_bytes(path, valid_unicode(text).encode())


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, as :func:`atomic` does. NaN and infinity are refused (``ValueError``): JSON has none.

    Bytes of a file name that are not UTF-8 become ``\\xe9`` and the like: JSON has no lone surrogates either.
    """
    write_bytes(path, (json.dumps(valid_unicode(value), indent=2, allow_nan=False) + "\n").encode())


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
