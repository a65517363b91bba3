"""The client's side of :mod:`benchmarks.studies.serving_load`, a process of its own.

``python -m benchmarks.studies.serving_client PORT FILE RATE SECONDS CLIENTS`` prints a JSON list of status and seconds, one
for each request. With a rate the requests leave on time whatever comes back (open loop; common tools that limit the rate of
each of their connections send in bursts, and wait for answers); with a rate of 0, ``CLIENTS`` send one after the other.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from pathlib import Path

Answers = list[tuple[str, float]]


def ask(port: int, body: bytes, answers: Answers) -> None:
    """One photograph on a connection of its own; what fails is noted by the error's name."""
    begun = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=150)
    try:
        connection.request("POST", "/v1/deblur", body)
        response = connection.getresponse()
        response.read()
        answers.append((str(response.status), time.perf_counter() - begun))
    except (OSError, http.client.HTTPException) as error:
        answers.append((type(error).__name__, time.perf_counter() - begun))
    finally:
        connection.close()


def open_loop(port: int, body: bytes, rate: float, seconds: float) -> Answers:
    """``rate`` a second, evenly spaced."""
    answers: Answers = []
    threads = []
    begun = time.perf_counter()
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        threads.append(threading.Thread(target=ask, args=(port, body, answers)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return answers


def closed_loop(port: int, body: bytes, seconds: float, clients: int) -> Answers:
    """``clients`` that each send the next when they have the last."""
    answers: Answers = []
    end = time.perf_counter() + seconds

    def work() -> None:
        while time.perf_counter() < end:
            ask(port, body, answers)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


if __name__ == "__main__":
    port, file, rate, seconds, clients = sys.argv[1:]
    content = Path(file).read_bytes()
    if float(rate):
        found = open_loop(int(port), content, float(rate), float(seconds))
    else:
        found = closed_loop(int(port), content, float(seconds), int(clients))
    sys.stdout.write(json.dumps(found))
