"""The study of the service: its client keeps its times, and its picture shows what the report says."""

from __future__ import annotations

import socket
import threading
import time
from xml.etree import ElementTree

from benchmarks.studies.serving_client import open_loop
from benchmarks.studies.serving_load import _answer
from benchmarks.studies.serving_picture import picture, table

LOAD = {
    "times_capacity": 10.0, "sent_per_second": 80.0, "restored_per_second": 8.0, "p50": 120.0, "p99": 900.0,
    "statuses": {"200": 8, "429": 72}, "memory_mib": 500.0,
}  # fmt: skip


def test_an_open_loop_does_not_wait_for_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arrivals: list[float] = []
        held: list[socket.socket] = []

        def accept() -> None:
            for _ in range(10):
                client, _ = listener.accept()
                arrivals.append(time.monotonic())
                held.append(client)
            for client in held:
                client.close()

        thread = threading.Thread(target=accept)
        thread.start()
        answers = open_loop(listener.getsockname()[1], b"x", 20.0, 0.5)
        thread.join()
    assert len(answers) == len(arrivals) == 10, "none was answered before the last had arrived"
    assert not {status for status, _ in answers} & {"200"}
    assert arrivals[-1] - arrivals[0] > 0.3, "evenly spaced"


def test_an_answer_that_is_not_one_clear_one_is_told_apart() -> None:
    for said, found in (
        (b'HTTP/1.1 422 X\r\n\r\n{"detail": "it is so."}', "422"),
        (b"HTTP/1.1 500 X\r\n\r\nTraceback", repr(b"HTTP/1.1 500 X\r\n\r\nTraceback")),
        (b"", "b''"),
    ):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def answer(listener: socket.socket = listener, said: bytes = said) -> None:
                client, _ = listener.accept()
                with client:
                    client.recv(100)
                    client.sendall(said)

            thread = threading.Thread(target=answer)
            thread.start()
            assert _answer(listener.getsockname()[1], b"x") == found
            thread.join()


def test_the_picture_and_the_table_say_what_the_report_says() -> None:
    report = {"loads": [LOAD]}
    text = "".join(ElementTree.fromstring(picture(report)).itertext())
    assert "8.0 of 80.0" in text
    assert "120, 900" in text
    assert "| 10 x capacity | 80.0 | 8.0 | 120 ms | 900 ms | 8 x 200, 72 x 429 | 500 MiB |" in table(report)
