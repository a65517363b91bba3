from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import torch

pytest.importorskip("gdown")
import requests

from mimo.errors import CheckpointError, MimoError, OutputError
from mimo.files import sha256_of
from mimo.installing import install
from mimo.networks import pretrained as published
from mimo.networks.checkpoint import load_checkpoint
from mimo.networks.pretrained import PUBLISHED, Published, fetch, named, record_of
from mimo.networks.registry import build
from mimo.networks.registry import named as network_named

SPEC = network_named("mimo-unet-small")


def pickled(seed: int, spec_name: str = SPEC.name) -> bytes:
    """A file as the authors publish them."""
    torch.manual_seed(seed)
    file = io.BytesIO()
    torch.save({"model": build(network_named(spec_name)).state_dict()}, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def content() -> bytes:
    return pickled(seed=1)


class Drive(ThreadingHTTPServer):
    """Plays Google Drive: ``/file`` gives the content, ``/uc`` first asks whether a large file is really wanted."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.cut: int | None = None
        """Close the connection after so many bytes of the body."""
        self.ranges = True
        self.refusal = ""
        """The page that Drive shows in place of a file, when it is over its quota."""
        self.asked: list[tuple[str, str | None]] = []
        """Path and Range header of each request."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def bodies(self) -> list[str | None]:
        return [span for path, span in self.asked if path in ("/file", "/download")]


# On one line, as Drive sends it; gdown reads it line by line.
CONFIRM = (
    '<!DOCTYPE html><html><body><p class="uc-warning-caption">Google Drive can\'t scan this file for viruses.</p>'
    '<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">'
    '<input type="submit" value="Download anyway"/><input type="hidden" name="id" value="{id}">'
    '<input type="hidden" name="export" value="download"><input type="hidden" name="confirm" value="t">'
    '<input type="hidden" name="uuid" value="9a"></form></body></html>'
)


class Handler(BaseHTTPRequestHandler):
    server: Drive

    def do_GET(self) -> None:
        parts, drive = urlsplit(self.path), self.server
        span = self.headers.get("Range")
        drive.asked.append((parts.path, span))
        query = parse_qs(parts.query)
        if parts.path == "/uc":
            return self.page(drive.refusal or CONFIRM.format(id=query["id"][0]))
        if parts.path == "/download" and query.get("confirm") != ["t"]:
            return self.send_error(403)
        start = 0
        if span is not None and drive.ranges:
            start = int(span.removeprefix("bytes=").rstrip("-"))
            if start >= len(drive.content):
                return self.send_error(416)
        body = drive.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Disposition", 'attachment; filename="MIMO-UNet.pkl"')
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(drive.content) - 1}/{len(drive.content)}")
        self.end_headers()
        self.wfile.write(body if drive.cut is None else body[: drive.cut])
        return None

    def page(self, html: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(html)))
        self.end_headers()
        self.wfile.write(html.encode())

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def drive(content: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drive]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(published, "RETRIES", 0)
    with Drive(content) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def entry(drive: Drive, path: str = "/file") -> Published:
    return Published("some-weights", SPEC.name, "GoPro", drive.address + path)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


DONE = ["some-weights.fetched.json", "some-weights.safetensors"]


def test_a_fetch_converts_and_records(drive: Drive, tmp_path: Path) -> None:
    heard: list[tuple[int, int | None]] = []
    path = fetch(entry(drive), tmp_path / "new", lambda done, total: heard.append((done, total)))
    assert names(tmp_path / "new") == DONE
    (tmp_path / "original.pkl").write_bytes(drive.content)
    original, converted = load_checkpoint(tmp_path / "original.pkl"), load_checkpoint(path)
    assert converted.spec == SPEC
    assert all(torch.equal(converted.state[key], tensor) for key, tensor in original.state.items())
    assert converted.lineage["download_sha256"] == original.sha256
    assert converted.lineage["data"] == "GoPro"
    record = json.loads(record_of(path).read_text())
    assert record["download_sha256"] == original.sha256
    assert record["sha256"] == sha256_of(path)
    assert record["url"] == entry(drive).url
    assert heard[-1] == (len(drive.content), len(drive.content))


def test_what_is_here_is_not_fetched_again(drive: Drive, tmp_path: Path) -> None:
    path = fetch(entry(drive), tmp_path)
    before = path.stat()
    assert fetch(entry(drive), tmp_path) == path
    after = path.stat()
    # Not the whole stat: reading the file moves its access time.
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(drive.asked) == 1


def test_an_interrupted_download_is_continued(drive: Drive, tmp_path: Path) -> None:
    drive.cut = 3_000_000
    with pytest.raises(CheckpointError, match="could not be downloaded"):
        fetch(entry(drive), tmp_path)
    (part,) = tmp_path.iterdir()
    size = part.stat().st_size
    assert part.suffix == ".part"
    assert 0 < size <= 3_000_000

    drive.cut = None
    path = fetch(entry(drive), tmp_path)
    assert drive.bodies[-1] == f"bytes={size}-"
    assert names(tmp_path) == DONE
    assert json.loads(record_of(path).read_text())["download_sha256"] == hashlib.sha256(drive.content).hexdigest()


def test_a_broken_connection_is_taken_up_again_within_one_fetch(
    drive: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "RETRIES", 9)
    monkeypatch.setattr("time.sleep", lambda _: None)
    drive.cut = 3_000_000
    path = fetch(entry(drive), tmp_path)
    assert len([span for span in drive.bodies if span]) >= 2
    assert json.loads(record_of(path).read_text())["download_sha256"] == hashlib.sha256(drive.content).hexdigest()


@pytest.mark.parametrize("whole", [False, True])
def test_a_download_that_the_server_cannot_continue_starts_over(drive: Drive, tmp_path: Path, whole: bool) -> None:
    """Without ranges, or asked for what follows the last byte when it was killed just before the end."""
    drive.ranges = whole
    (tmp_path / ".some-weights.downloadabcdefgh.part").write_bytes(drive.content if whole else drive.content[:1000])
    path = fetch(entry(drive), tmp_path)
    assert drive.bodies[-1] is None
    assert names(tmp_path) == DONE
    assert json.loads(record_of(path).read_text())["download_sha256"] == hashlib.sha256(drive.content).hexdigest()


def test_a_file_that_changed_at_the_source_is_refused(drive: Drive, tmp_path: Path) -> None:
    path = fetch(entry(drive), tmp_path)
    record = record_of(path).read_bytes()
    path.unlink()
    drive.content = pickled(seed=2)
    with pytest.raises(CheckpointError, match="another file"):
        fetch(entry(drive), tmp_path)
    assert names(tmp_path) == ["some-weights.fetched.json"]
    assert record_of(path).read_bytes() == record

    drive.content = pickled(seed=1)
    assert fetch(entry(drive), tmp_path) == path
    assert json.loads(record_of(path).read_text())["fetched"] == json.loads(record)["fetched"]


def test_a_file_that_changed_here_is_refused(drive: Drive, tmp_path: Path) -> None:
    path = fetch(entry(drive), tmp_path)
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(CheckpointError, match="has changed since it was fetched"):
        fetch(entry(drive), tmp_path)
    assert path.read_bytes() == changed


def test_a_file_that_nobody_fetched_is_left_alone(drive: Drive, tmp_path: Path) -> None:
    (tmp_path / "some-weights.safetensors").write_text("mine")
    with pytest.raises(CheckpointError, match="nothing says what it is"):
        fetch(entry(drive), tmp_path)
    assert (tmp_path / "some-weights.safetensors").read_text() == "mine"
    assert not drive.asked


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}', '{"schema": 1, "sha256": 1}'])
def test_a_damaged_record_is_named(drive: Drive, tmp_path: Path, text: str) -> None:
    (tmp_path / "some-weights.fetched.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"some-weights\.fetched\.json is damaged"):
        fetch(entry(drive), tmp_path)


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("import pathlib; pathlib.Path('ran').touch()",))


@pytest.mark.parametrize(
    "sent",
    [
        b"<html>Sorry, something went wrong</html>",
        pickle.dumps({"model": Payload()}, protocol=2),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_no_checkpoint_is_refused_and_removed(
    drive: Drive, tmp_path: Path, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    drive.content = sent
    with pytest.raises(CheckpointError, match="refused and removed"):
        fetch(entry(drive), tmp_path / "out")
    assert names(tmp_path / "out") == []
    assert names(tmp_path / "cwd") == []


def test_weights_of_another_variant_are_refused(drive: Drive, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="mimo-unet-small, not of mimo-unet"):
        fetch(Published("some-weights", "mimo-unet", "GoPro", drive.address + "/file"), tmp_path)
    assert names(tmp_path) == []


def test_offline_the_manual_way_is_told_in_two_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda _: None)
    with Drive(b"") as server:
        nowhere = entry(server)
    with pytest.raises(CheckpointError) as caught:
        fetch(nowhere, tmp_path)
    manual = str(caught.value).partition("By hand: ")[2]
    assert nowhere.url in manual
    assert len(re.findall(r"\.(?: |$)", manual)) == 2
    assert names(tmp_path) == []


@pytest.fixture
def google(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> Published:
    """An entry with a real address of Drive, which leads to the local server."""
    get = requests.Session.get

    def local(session: requests.Session, url: str, **options: object) -> requests.Response:
        parts = urlsplit(url)
        assert parts.hostname in ("drive.google.com", "drive.usercontent.google.com")
        return get(session, f"{drive.address}{parts.path}?{parts.query}", **options)

    monkeypatch.setattr(requests.Session, "get", local)
    return Published("some-weights", SPEC.name, "GoPro", PUBLISHED["mimo-unet-gopro"].url)


def test_drive_asking_for_confirmation_is_answered(drive: Drive, google: Published, tmp_path: Path) -> None:
    path = fetch(google, tmp_path)
    assert [asked for asked, _ in drive.asked] == ["/uc", "/download"]
    assert load_checkpoint(path).spec == SPEC


def test_a_download_from_drive_is_continued(drive: Drive, google: Published, tmp_path: Path) -> None:
    drive.cut = 3_000_000
    with pytest.raises(CheckpointError, match="could not be downloaded"):
        fetch(google, tmp_path)
    drive.cut = None
    fetch(google, tmp_path)
    assert drive.bodies[-1] is not None
    assert names(tmp_path) == DONE


def test_drive_over_its_quota_keeps_what_is_here(drive: Drive, google: Published, tmp_path: Path) -> None:
    part = tmp_path / ".some-weights.downloadabcdefgh.part"
    part.write_bytes(drive.content[:1000])
    drive.refusal = '<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p>'
    with pytest.raises(CheckpointError, match="Too many users") as caught:
        fetch(google, tmp_path)
    assert google.url in str(caught.value)
    assert part.read_bytes() == drive.content[:1000]


def test_a_folder_that_cannot_be_written_is_said(drive: Drive, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="part of its path is a file"):
        fetch(entry(drive), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_without_gdown_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(MimoError, match=re.escape(install("weights"))):
        fetch(PUBLISHED["mimo-unet-gopro"], tmp_path)
    assert names(tmp_path) == []


def test_the_list_is_the_authors_three_files() -> None:
    assert {entry.url.partition("id=")[2] for entry in PUBLISHED.values()} == {
        "1EQJoQj3YMLFfzrbgzWMD3Xj96RqLdIlx",
        "166sufeHcdDTgXHNbCRzTC4T6DzuflB5m",
        "1N3n-ozw1twt96ohX4tjsSAIcHrlNwHZ7",
    }
    assert all(network_named(entry.spec_name) for entry in PUBLISHED.values())
    assert named("mimo-unet-plus-gopro").spec_name == "mimo-unet-plus"
    with pytest.raises(CheckpointError, match="mimo-unet-gopro, mimo-unet-plus-gopro"):
        named("mimo-unet")
