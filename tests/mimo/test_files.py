"""Files are whole or not there, and a person is told why they are not."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

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
        assert temporary.suffix == target.suffix
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
        (errno.EACCES, "no permission to write there; choose another place with --out"),
        (errno.EROFS, "no permission to write there; choose another place with --out"),
        (errno.EIO, "Input/output error; choose another place with --out"),
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
    with pytest.raises(OutputError, match="there is a folder of that name; choose another name"):
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
