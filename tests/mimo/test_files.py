"""Files are whole or not there, and a person is told why they are not."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import pty
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mimo import files
from mimo.errors import ExportError, OutputError
from mimo.files import atomic, sha256_of, write_bytes, write_json

ROOT = Path(__file__).parents[2]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file that stands there already, alone in its folder."""
    path = tmp_path / "result.json"
    path.write_text("old")
    return path


def untouched(target: Path) -> bool:
    return target.read_text() == "old" and list(target.parent.iterdir()) == [target]


def test_the_file_takes_its_place_at_the_end(target: Path) -> None:
    with atomic(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.name.startswith(".mimo-")
        assert temporary.suffix == ".tmp", "no command that takes all ONNX files of a folder may find it"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ExportError("no"), ValueError("no"), KeyboardInterrupt()], ids=repr)
def test_an_error_passes_through_and_leaves_what_was_there(target: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, atomic(target) as temporary:
        temporary.write_text("half of it")
        raise error
    assert caught.value is error
    assert untouched(target)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk is full; free some space"),
        (errno.EFBIG, r"larger than this account may write; raise the limit \(ulimit -f\)"),
        (errno.EACCES, "no permission to write there; choose another place\\."),
        (errno.EROFS, "no permission to write there; choose another place\\."),
        (errno.EIO, "Input/output error; choose another place\\."),
    ],
)
def test_the_systems_errors_become_cause_and_cure(target: Path, number: int, says: str) -> None:
    with pytest.raises(OutputError, match=rf"result\.json could not be written: .*{says}"), atomic(target) as temporary:
        temporary.write_text("half of it")
        raise OSError(number, os.strerror(number))
    assert untouched(target)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_really_full(target: Path) -> None:
    with pytest.raises(OutputError, match="the disk is full"), atomic(target) as temporary:
        temporary.unlink()
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"x")
    assert untouched(target)


# What writes large files, and must say the same whichever library does the writing. Each writes about 400 kB.
WRITERS = {
    "bytes": "from mimo.files import write_bytes; write_bytes(path, bytes(400_000))",
    "json": "from mimo.files import write_json; write_json(path, ['x' * 400_000])",
    "checkpoint": """
from mimo.networks.checkpoint import load_checkpoint, save_checkpoint
checkpoint = load_checkpoint(source)
save_checkpoint(path, checkpoint.spec, checkpoint.state, {})
""",
}
LIMITED = """
import resource, sys
from pathlib import Path
from mimo.errors import OutputError
path, source = map(Path, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    exec(sys.stdin.read())
except OutputError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("writer", WRITERS)
def test_a_limit_on_the_size_of_files_leaves_the_old_one(target: Path, tiny_checkpoint: Path, writer: str) -> None:
    outcome = subprocess.run(
        [sys.executable, "-c", LIMITED, target, tiny_checkpoint],
        check=False,
        input=WRITERS[writer],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert outcome.returncode == 1
    assert outcome.stderr.strip() == (
        f"{target} could not be written: the file would be larger than this account may write; "
        "raise the limit (ulimit -f) or write elsewhere."
    )
    assert untouched(target)


def test_a_folder_of_that_name(tmp_path: Path) -> None:
    folder = tmp_path / "taken"
    folder.mkdir()
    with pytest.raises(OutputError, match="there is a folder of that name; choose another name\\."):
        write_bytes(folder, b"x")
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("place", ["file/result.json", "file/deeper/result.json"])
def test_a_path_through_a_file(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="part of its path is a file, not a folder"):
        write_bytes(tmp_path / place, b"x")
    assert (tmp_path / "file").read_text() == "x"


def test_folders_are_made(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "c.bin", b"x")
    assert (tmp_path / "a" / "b" / "c.bin").read_bytes() == b"x"


def test_the_longest_name_a_folder_takes(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".png")
    write_bytes(path, b"x")
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_the_usual_ones(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_bytes(tmp_path / "x", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


def test_many_threads_write_at_once(tmp_path: Path) -> None:
    """Photographs are written while others are: one name, whole whoever was last, and nobody's permissions change."""
    path = tmp_path / "same"
    contents = [bytes([number]) * 10_000 for number in range(16)]
    before = os.umask(0o022)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda content: write_bytes(path, content), contents * 8))
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
    assert path.read_bytes() in contents
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_readable_and_strict(target: Path) -> None:
    write_json(target, {"psnr": 31.5, "names": ["ä"]})
    assert json.loads(target.read_text(encoding="utf-8")) == {"psnr": 31.5, "names": ["ä"]}
    assert target.read_text().endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_without_a_number_for_it_is_not_written(target: Path, value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(target, {"psnr": value})
    assert untouched(target)


def test_the_hash_is_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "x").write_bytes(content)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def run(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """A Python process of its own: what it is killed by, or prints, is its own too."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-c",
        f"import os, sys; from pathlib import Path; from mimo.files import *; {code}",
        *map(str, arguments),
    ]
    return subprocess.run(command, check=False, capture_output=True, env=environment, timeout=60)


# What stands where a result goes, and is not a regular file.


def test_a_symbolic_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "real").write_text("old")
    (tmp_path / "middle").symlink_to(Path("far") / "real")
    (tmp_path / "link").symlink_to("middle")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "middle").is_symlink()
    assert (tmp_path / "far" / "real").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["real"]


def test_a_link_to_nothing_yet_gets_its_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("later")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "later").read_bytes() == b"new"


def test_a_link_that_points_at_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError, match="a symbolic link in its path points at itself"):
        write_bytes(tmp_path / "loop", b"x")
    assert (tmp_path / "loop").is_symlink()


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = bytes(range(256)) * 2_000
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_bytes(pipe, content)
    reader.join(10)
    assert received == [content]
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_reader_of_a_pipe_that_goes_away_is_no_error(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def read_a_little() -> None:
        with pipe.open("rb") as file:
            file.read(10)

    reader = threading.Thread(target=read_a_little)
    reader.start()
    write_bytes(pipe, bytes(1_000_000))
    reader.join(10)
    assert pipe.is_fifo()


def test_a_socket_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket has at most 107 bytes
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind("socket")
        listener.listen()
        write_bytes(Path("socket"), b"hello")
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(100) == b"hello"
    assert stat.S_ISSOCK(Path("socket").stat().st_mode)
    with pytest.raises(OutputError, match="a socket on which nobody listens"):
        write_bytes(Path("socket"), b"hello")


def test_a_device_is_written_to() -> None:
    """A terminal of its own: what is written arrives, and the node is what it was."""
    master, slave = pty.openpty()
    try:
        path = Path(os.ttyname(slave))
        write_bytes(path, b"hello\n")
        assert os.read(master, 100).replace(b"\r", b"") == b"hello\n"
        assert path.is_char_device()
    finally:
        os.close(master)
        os.close(slave)


def test_the_null_device_stays_one() -> None:
    before = Path(os.devnull).stat()
    write_bytes(Path(os.devnull), b"x")
    assert Path(os.devnull).stat().st_ino == before.st_ino
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("onto", ["pipe", "file", "socket"])
def test_standard_output_gets_what_was_printed_and_then_the_file(tmp_path: Path, name: str, onto: str) -> None:
    code = "print('before'); write_bytes(Path(sys.argv[1]), b'the file\\n'); print('after')"
    expected = b"before\nthe file\nafter\n"
    command = [sys.executable, "-c", f"import sys; from pathlib import Path; from mimo.files import *; {code}", name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if onto == "pipe":
        assert subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout == expected
    elif onto == "file":
        with (tmp_path / "out").open("wb") as file:
            subprocess.run(command, check=True, stdout=file, env=environment)
        assert (tmp_path / "out").read_bytes() == expected
    else:
        here, there = socket.socketpair()
        with here, there:
            subprocess.run(command, check=True, stdout=there.fileno(), env=environment)
            assert here.recv(1000) == expected


def test_a_stream_gets_nothing_of_what_failed(tmp_path: Path) -> None:
    code = "\nwith atomic(Path('/dev/stdout')) as file:\n  file.write_text('half'); raise KeyError"
    assert run(code).stdout == b""


def test_a_full_device_says_so() -> None:
    with pytest.raises(OutputError, match="/dev/full could not be written: the disk is full"):
        write_bytes(Path("/dev/full"), b"x")


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    for path in (tmp_path / ("n" * 256), tmp_path / "/".join(["d" * 200] * 30)):
        with pytest.raises(OutputError, match="the name is longer than the file system takes"):
            write_bytes(path, b"x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o444])
def test_permissions_of_what_stood_there_are_kept(target: Path, mode: int) -> None:
    target.chmod(mode)
    write_bytes(target, b"new")
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert target.read_bytes() == b"new"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_of_what_stood_there_is_kept(target: Path) -> None:
    os.chown(target, 12345, 23456)
    write_bytes(target, b"new")
    assert (target.stat().st_uid, target.stat().st_gid) == (12345, 23456)


def test_a_hard_link_put_in_place_keeps_the_permissions_of_its_source(target: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("x")
    source.chmod(0o400)
    with atomic(target) as temporary:
        temporary.unlink()
        temporary.hardlink_to(source)
    assert stat.S_IMODE(source.stat().st_mode) == 0o400
    assert target.samefile(source)


# File systems that flush less, or not at all.


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EROFS, errno.EACCES, errno.EBADF])
def test_a_file_system_without_fsync_is_written_to(target: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    write_bytes(target, b"new")
    assert target.read_bytes() == b"new"


def test_a_file_is_flushed_through_a_writable_handle_and_its_folder_too(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[tuple[bool, bool]] = []

    def note(handle: int) -> None:
        writable = fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        flushed.append((stat.S_ISDIR(os.fstat(handle).st_mode), writable))

    monkeypatch.setattr(os, "fsync", note)
    write_bytes(target, b"new")
    assert flushed == [(False, True), (True, False)]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_flush_that_really_failed_leaves_the_old_file(target: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="could not be written"):
        write_bytes(target, b"new")
    assert untouched(target)


# What a process that was killed left behind.

KILLED = "\nwith atomic(Path(sys.argv[1])) as file:\n  file.write_text('half of it'); os.kill(os.getpid(), 9)"


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_the_next_writer_takes_away_what_a_killed_one_left(tmp_path: Path) -> None:
    for _ in range(2):
        assert run(KILLED, tmp_path / "model.onnx").returncode == -signal.SIGKILL
    assert len(left_in(tmp_path)) == 1, "the second took away what the first had left"
    assert list(tmp_path.glob("*.onnx")) == []
    write_bytes(tmp_path / "another", b"x")
    assert left_in(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["another"]


def test_the_file_of_a_writer_that_is_at_work_is_never_taken_away(tmp_path: Path) -> None:
    """Neither by another process, nor by a second thread, nor when a library has put another file under its name."""
    with atomic(tmp_path / "one") as temporary:
        temporary.unlink()
        temporary.write_text("another file, without the lock")
        assert run("write_bytes(Path(sys.argv[1]), b'x')", tmp_path / "two").returncode == 0
        files._tidied.clear()
        write_bytes(tmp_path / "three", b"x")
        assert temporary.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "three", "two"]


def test_a_lock_is_enough_where_the_process_cannot_be_seen(tmp_path: Path) -> None:
    """As on another machine that shares the folder: its process numbers say nothing here."""
    foreign = tmp_path / ".mimo-1-00000000-0123abcd.tmp"
    foreign.write_text("x")
    with foreign.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        files._tidied.clear()
        write_bytes(tmp_path / "a", b"x")
        assert foreign.exists()
    files._tidied.clear()
    write_bytes(tmp_path / "b", b"x")
    assert not foreign.exists()


def test_only_our_temporary_files_are_taken_away(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    names = [".mimo-1-00000000-0123abcd.tmp.png", ".mimo-notes", "mimo-1-00000000-0123abcd.tmp", ".hidden.tmp"]
    for name in names:
        (tmp_path / name).write_text("x")
    (tmp_path / ".mimo-2-00000000-0123abcd.tmp").symlink_to("folder")
    write_bytes(tmp_path / "a", b"x")
    expected = sorted([*names, "a", "folder", ".mimo-2-00000000-0123abcd.tmp"])
    assert sorted(path.name for path in tmp_path.iterdir()) == expected


def test_a_folder_that_may_be_written_to_and_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    folder.mkdir()
    shutil.chown(folder, 65534, 65534) if os.geteuid() == 0 else None
    folder.chmod(0o300)
    for above in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        above.chmod(above.stat().st_mode | 0o011)
    code = "os.geteuid() or os.setresuid(65534, 65534, 65534); write_bytes(Path(sys.argv[1]), b'x')"
    assert run(code, folder / "x").returncode == 0
    folder.chmod(0o700)
    assert (folder / "x").read_bytes() == b"x"


def test_names_that_are_not_utf_8_leave_valid_json(target: Path) -> None:
    write_json(target, {os.fsdecode(b"caf\xe9"): [os.fsdecode(b"\xff.png"), "é"]})
    assert json.loads(target.read_text(encoding="utf-8")) == {"caf\\xe9": ["\\xff.png", "é"]}
    assert "\\ud" not in target.read_text(encoding="utf-8")
