"""``mimo serve`` under load and under attack: ``python -m benchmarks.studies.serving_load --out benchmarks/results``.

Open-loop load at half, once and ten times its capacity from a second process on loopback, the throughput of
``mimo deblur`` on a folder in the same run, a worker killed in flight, and hostile requests, one clear answer each. Uses
``schemathesis`` where it is installed, and says so where it is not. All of it shares the cores of one machine.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.studies.overhead import cut_photographs
from benchmarks.studies.serving_picture import picture, table
from engines.photographs import deblur_photographs
from engines.runtimes.opening import open_engine
from engines.runtimes.threads import usable_cores
from mimo.bundled import GRAPHS, SHIPPED
from mimo.errors import MimoError
from mimo.files import write_json, write_text
from mimo.terminal import say

SIZE = (96, 128)


@dataclass(frozen=True)
class Load:
    """One load. Latencies in milliseconds, of the photographs that were restored."""

    times_capacity: float
    asked_per_second: float
    seconds: float
    sent_per_second: float
    restored_per_second: float
    p50: float
    p99: float
    statuses: dict[str, int]
    memory_mib: float
    """Of all the service's processes, the most while it ran."""


@dataclass(frozen=True)
class Service:
    """``mimo serve`` in a process of its own."""

    pid: int
    port: int

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def workers(self) -> list[int]:
        """Process ids."""
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
        return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]

    def memory_mib(self) -> float:
        """Resident, of the service and its workers, shared pages counted in each."""
        total = 0
        for pid in (self.pid, *self.workers()):
            found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
            total += int(found[1]) if found else 0
        return total / 1024


@contextmanager
def serving(model: Path, workers: int) -> Iterator[Service]:
    """The service, warm, and stopped after the block."""
    command = [sys.executable, "-m", "mimo", "serve", str(model), "--port", "0", "--workers", str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
            if not found:
                raise MimoError("mimo serve did not start: its message stands above.")
            service = Service(process.pid, int(found[1]))
            wait_for(lambda: service.get("/readyz") == (200, b'{"workers":%d}' % workers))
            yield service
        finally:
            process.terminate()


def wait_for(what: Callable[[], bool], seconds: float = 120) -> float:
    """Seconds until ``what`` was true. Raises :class:`MimoError`."""
    begun = time.monotonic()
    while not what():
        if time.monotonic() - begun > seconds:
            raise MimoError(f"the service was not ready within {seconds:g} seconds: look at its messages.")
        time.sleep(0.05)
    return time.monotonic() - begun


def load(service: Service, body: Path, times: float, rate: float, seconds: float, *, clients: int = 0) -> Load:
    """Send at ``rate`` a second, whatever comes back; 0: as fast as ``clients`` get their answers."""
    command = [sys.executable, "-m", "benchmarks.studies.serving_client"]
    command += [str(service.port), str(body), str(rate), str(seconds), str(clients)]
    most = [service.memory_mib()]
    begun = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        reading: list[str] = []
        reader = threading.Thread(target=lambda: reading.append(process.stdout.read() if process.stdout else ""))
        reader.start()
        while process.poll() is None:
            time.sleep(0.25)
            try:
                most.append(service.memory_mib())
            except OSError:  # a worker that is just being replaced
                continue
        reader.join()
    spent = time.monotonic() - begun
    answers = json.loads(reading[0])
    done = [1000 * taken for status, taken in answers if status == "200"]
    if len(done) < 2:
        raise MimoError("nothing was restored under load: use more --seconds.")
    p99 = statistics.quantiles(done, n=100, method="inclusive")[98]
    statuses = dict(sorted(Counter(status for status, _ in answers).items()))
    return Load(times, rate, spent, len(answers) / spent, len(done) / spent, statistics.median(done), p99, statuses, max(most))


def folder_throughput(model: Path, folder: Path, seconds: float) -> float:
    """Photographs a second of ``mimo deblur`` on a folder, all cores, its start not counted."""
    with open_engine(model) as engine, tempfile.TemporaryDirectory() as out:
        deblur_photographs(engine, [folder], Path(out) / "warm")
        begun, count, number = time.perf_counter(), 0, 0
        while time.perf_counter() - begun < seconds:
            number += 1
            count += len(deblur_photographs(engine, [folder], Path(out) / str(number)).done)
        return count / (time.perf_counter() - begun)


def killed(service: Service, body: Path, rate: float, seconds: float, workers: int) -> dict[str, Any]:
    """Half the capacity asked, and one worker killed after a third of the time."""
    back: list[float] = []

    def kill() -> None:
        time.sleep(seconds / 3)
        os.kill(service.workers()[0], signal.SIGKILL)
        wait_for(lambda: service.get("/readyz") != (200, b'{"workers":%d}' % workers), 10)
        back.append(wait_for(lambda: service.get("/readyz") == (200, b'{"workers":%d}' % workers)))

    thread = threading.Thread(target=kill)
    thread.start()
    found = load(service, body, 0.5, rate, seconds)
    thread.join()
    return {"statuses": found.statuses, "p99": found.p99, "replaced_in_seconds": back[0] if back else None}


def hostile(service: Service, good: bytes, count: int) -> dict[str, Counter[str]]:
    """``count`` requests that are at fault, and what each kind got: a status, or what came instead of one clear answer."""
    bomb = good[:16] + (100_000).to_bytes(4, "big") * 2 + good[24:]
    head = b"POST /v1/deblur HTTP/1.1\r\nHost: 127.0.0.1\r\n"

    def sized(length: int | str, body: bytes) -> bytes:
        return head + f"Content-Length: {length}\r\nConnection: close\r\n\r\n".encode() + body

    kinds = {
        "a bomb of 10 gigapixels": lambda number: sized(len(bomb), bomb),
        "a picture cut off": lambda number: sized(len(good) // 2, good[: len(good) // 2]),
        "bytes turned in a picture": lambda number: sized(len(good), good[: 20 + number] + b"\xff\0\xff" + good[23 + number :]),
        "no picture": lambda number: sized(1000, bytes((number * at) % 251 for at in range(1000))),
        "a length beyond the limit": lambda number: sized(10**12, b""),
        "a length that is none": lambda number: sized(f"-{number}", b""),
        "a body shorter than its length, then silence": lambda number: sized(len(good) + 1, good),
        "bad chunks": lambda number: head + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "no HTTP": lambda number: bytes((number * at) % 127 for at in range(1, 40)) + b"\r\n\r\n",
        "a form of two": lambda number: (
            head + b"Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 40\r\n\r\n" + b"--B\r\n" * 8
        ),
    }  # fmt: skip
    found: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}

    def send(kind: str, number: int) -> None:
        found[kind][_answer(service.port, kinds[kind](number))] += 1

    threads = [
        threading.Thread(target=send, args=(kind, number)) for number in range(-(-count // len(kinds))) for kind in kinds
    ]
    for start in range(0, len(threads), 40):
        for thread in threads[start : start + 40]:
            thread.start()
        for thread in threads[start : start + 40]:
            thread.join()
    return found


def _answer(port: int, request: bytes) -> str:
    with socket.create_connection(("127.0.0.1", port), 60) as client:
        answer = b""
        try:
            client.sendall(request)
            while data := client.recv(65536):
                answer += data
        except ConnectionError as error:
            return type(error).__name__ if not answer else f"{answer[9:12].decode()}, then {type(error).__name__}"
        except TimeoutError:
            return "no end"
    statuses = re.findall(rb"HTTP/1\.1 (\d{3})", answer)
    clear = b'{"detail":' in answer or statuses == [b"200"]
    return statuses[0].decode() if len(statuses) == 1 and clear and b"Traceback" not in answer else repr(answer[:60])


def schemathesis(service: Service, examples: int) -> dict[str, Any]:
    """Requests made up from the OpenAPI schema; what the checks found."""
    program = shutil.which("schemathesis", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        return {"run": False, "why": "schemathesis is not installed"}
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = [program, "run", f"http://127.0.0.1:{service.port}/openapi.json", "--checks", checks, "--no-color"]
    command += [
        "--max-examples",
        str(examples),
        "--seed",
        "1",
        "--request-timeout",
        "30",
        "--phases",
        "examples,coverage,fuzzing",
    ]
    with tempfile.TemporaryDirectory() as folder:
        outcome = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=folder)
    lines = [line.strip() for line in outcome.stdout.splitlines() if line.strip()]
    summary = next((at for at, line in enumerate(lines) if "SUMMARY" in line), max(0, len(lines) - 12))
    return {"run": True, "passed": outcome.returncode == 0, "summary": lines[summary:]}


def main(
    out: Annotated[Path, typer.Option(help="The folder for serving-load.json and its picture.")] = Path(
        "benchmarks/results/studies"
    ),
    seconds: Annotated[float, typer.Option(help="Of each load.", min=2)] = 60.0,
    model: Annotated[str, typer.Option(help="A graph or an engine, or the name of a bundled network.")] = "mimo-unet-small",
    requests: Annotated[int, typer.Option(help="Hostile ones.", min=10)] = 200,
) -> None:
    """Run the study and write its report."""
    graph = GRAPHS[model] if model in SHIPPED else Path(model)
    workers = max(2, usable_cores())
    with tempfile.TemporaryDirectory() as name:
        photographs = cut_photographs(Path(name) / "in", 8, *SIZE)
        body = photographs[0]
        before = folder_throughput(graph, body.parent, seconds / 4)
        with serving(graph, workers) as service:
            load(service, body, 0, 0, max(2.0, seconds / 6), clients=2 * workers)
            closed = load(service, body, 0, 0, max(2.0, seconds / 4), clients=2 * workers)
            capacity = closed.restored_per_second
            say(f"capacity: {capacity:.1f} photographs a second")
            warm = service.memory_mib()
            loads = []
            for times in (0.5, 1.0, 10.0):
                loads.append(load(service, body, times, times * capacity, seconds))
                say(f"{times:g} x: {loads[-1]}")
            after_loads = service.memory_mib()
            kill = killed(service, body, 0.5 * capacity, seconds, workers)
            say(f"killed: {kill}")
            attacks = hostile(service, body.read_bytes(), requests)
            say(f"hostile: {attacks}")
            made_up = schemathesis(service, max(5, requests // 10))
            say(f"schemathesis: {made_up}")
            alive = service.get("/readyz")[0] == 200
        after = folder_throughput(graph, body.parent, seconds / 4)
    report = {
        "schema": 1,
        "model": graph.name,
        "photograph": f"{SIZE[1]}x{SIZE[0]}",
        "workers": workers,
        "cores": usable_cores(),
        "capacity_per_second": capacity,
        "folder_per_second": {"before": before, "after": after},
        "loads": [asdict(one) for one in loads],
        "memory_mib": {"warm": warm, "after_the_loads": after_loads},
        "killed": kill,
        "hostile": {kind: dict(answers) for kind, answers in attacks.items()},
        "schemathesis": made_up,
        "ready_at_the_end": alive,
    }
    write_json(out / "serving-load.json", report)
    write_text(out / "serving-load.svg", picture(report))
    for line in table(report).splitlines():
        say(line)


if __name__ == "__main__":
    typer.run(main)
