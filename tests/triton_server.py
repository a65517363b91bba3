"""A real Triton on loopback, from NVIDIA's wheel that brings one with the Python backend."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

WHEEL = "nvidia-pytriton==0.7.0"
"""Of tritonserver 2.51. It is unpacked, not installed: it asks for older versions of what is here."""
STORE = Path(__file__).parents[1] / ".triton"
START_SECONDS, STOP_SECONDS = 240, 30


@dataclass(frozen=True)
class Server:
    """Addresses of a running server."""

    grpc: int
    http: int

    def url(self, model: str, protocol: str = "grpc") -> str:
        if protocol == "http":
            return f"triton+http://127.0.0.1:{self.http}/{model}"
        return f"triton://127.0.0.1:{self.grpc}/{model}"


def unpacked_wheel() -> Path:
    """The wheel's files, downloaded once a checkout. Skips the test where pip cannot have it."""
    target = STORE / WHEEL.replace("==", "-")
    if target.is_dir():
        return target
    STORE.mkdir(exist_ok=True)
    work = STORE / f"unpacking-{os.getpid()}"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(work),
        WHEEL,
    ]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"pip cannot download {WHEEL}: {done.stderr.strip().splitlines()[-1:]}")
        (wheel,) = work.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(work / "files")
        for program in (work / "files" / "pytriton" / "tritonserver").rglob("triton*"):
            if program.is_file():
                program.chmod(0o755)
        if not target.is_dir():
            (work / "files").rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def site_packages() -> Path:
    """What the model's interpreter is given: the packages of these tests."""
    return Path(sysconfig.get_path("purelib"))


@contextmanager
def running(repository: Path, models: list[str], folder: Path) -> Iterator[Server]:
    """Serve ``repository`` until the block ends, from when ``models`` are ready; ``folder`` takes backends and log."""
    wheel = unpacked_wheel()
    home = wheel / "pytriton" / "tritonserver"
    backend = folder / "backends" / "python"
    shutil.copytree(home / "backends" / "python", backend)
    stub = home / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}" / "triton_python_backend_stub"
    shutil.copy(stub, backend)
    server = Server(*_free_ports())
    command = [
        str(home / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backend.parent}",
        "--http-address=127.0.0.1",
        f"--http-port={server.http}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={server.grpc}",
        "--allow-metrics=false",
        "--exit-on-error=false",
        "--exit-timeout-secs=5",
    ]
    libraries = [str(wheel / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR"))]
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries), "OMP_NUM_THREADS": "1"}
    log = folder / "triton.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        end = time.monotonic() + START_SECONDS
        while not all(_is_ready(server.http, model) for model in models):
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"Triton does not serve {models}:\n{log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(port: int, model: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/{model}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
