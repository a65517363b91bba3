"""``mimo serve`` as a process: what it refuses to start, and how it ends."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engines.serving.run import address_of, listening
from tests.engines.serving.running import PATIENCE, Reply, until
from tests.engines.serving.test_app import photograph
from tests.tiny import Tiny

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def mimo(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=ENVIRONMENT, cwd=ROOT)


@contextmanager
def serving(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process and its port."""
    command = [sys.executable, "-m", "cli", "serve", "--port", "0", "--engine", "onnxruntime", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=ROOT)
    with process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
            assert found
            port = int(found[1])
            until(lambda: ask(port, "GET", "/readyz").status == 200)
            yield process, port
        finally:
            process.kill()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return Reply(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def workers_of(pid: int) -> list[int]:
    """Processes spawned by the service that have an engine's pipe, not Python's resource tracker."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    every = [int(child) for thread in children.parent.parent.iterdir() for child in (thread / "children").read_text().split()]
    return [child for child in every if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_sigterm_finishes_what_was_taken_on_and_leaves_no_process(tiny: Tiny) -> None:
    data = photograph("png", size=(300, 300))
    with serving(tiny.onnx) as (process, port):
        workers = workers_of(process.pid)
        assert len(workers) == 1
        replies: list[Reply] = []
        threads = [threading.Thread(target=lambda: replies.append(ask(port, "POST", "/v1/deblur", data))) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: b"mimo_in_work 1.0" in ask(port, "GET", "/metrics").body or replies)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(PATIENCE)
        assert [reply.status for reply in replies] == [200] * 4
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
        until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_a_killed_worker_is_replaced_and_the_others_answer(tiny: Tiny) -> None:
    data = photograph("png")
    with serving(tiny.onnx, "--workers", "2") as (process, port):
        until(lambda: ask(port, "GET", "/readyz").body == b'{"workers":2}')
        first, second = workers_of(process.pid)
        os.kill(first, signal.SIGKILL)
        assert ask(port, "POST", "/v1/deblur", data).status == 200
        until(lambda: b"mimo_workers_replaced 1.0" in ask(port, "GET", "/metrics").body)
        until(lambda: ask(port, "GET", "/readyz").body == b'{"workers":2}')
        assert first not in workers_of(process.pid)
        assert second in workers_of(process.pid)


def test_when_the_service_is_killed_its_workers_end(tiny: Tiny) -> None:
    with serving(tiny.onnx) as (process, _):
        workers = workers_of(process.pid)
        process.kill()
        process.wait(PATIENCE)
        until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_other_machines_need_a_token_or_a_word(tiny: Tiny) -> None:
    outcome = mimo("serve", tiny.onnx, "--host", "0.0.0.0", "--port", "0")
    assert outcome.returncode == 2
    assert "--token-file" in outcome.stderr
    assert "--no-auth" in outcome.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        (b"", "at least 16"),
        (b"short", "at least 16"),
        (b"two words of enough length", "one word"),
        (b"\xff" * 20, "ASCII"),
    ],
)
def test_a_token_file_that_holds_none_is_refused(tmp_path: Path, tiny: Tiny, content: bytes | None, says: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    outcome = mimo("serve", tiny.onnx, "--token-file", path)
    assert outcome.returncode == 2
    assert says in " ".join(outcome.stderr.split())


def test_a_port_that_is_taken_and_a_model_that_is_none_are_one_sentence(tmp_path: Path, tiny: Tiny) -> None:
    with listening("127.0.0.1", 0) as taken:
        outcome = mimo("serve", tiny.onnx, "--port", str(taken.getsockname()[1]))
    assert outcome.returncode == 2
    assert "give another --port" in outcome.stderr
    outcome = mimo("serve", tmp_path / "none.onnx", "--port", "0")
    assert outcome.returncode == 2
    assert "none.onnx does not exist" in outcome.stderr
    outcome = mimo("serve", tiny.onnx, "--port", "0", "--device", "cuda", "--engine", "openvino")
    assert outcome.returncode == 2
    assert "Traceback" not in outcome.stderr


def test_addresses_are_what_a_browser_takes() -> None:
    with listening("0.0.0.0", 0) as every:
        assert address_of(every) == f"http://127.0.0.1:{every.getsockname()[1]}"
    if socket.has_ipv6:
        try:
            sixth = listening("::1", 0)
        except Exception:
            return
        with sixth:
            assert address_of(sixth) == f"http://[::1]:{sixth.getsockname()[1]}"
