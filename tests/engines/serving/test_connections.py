"""What clients do to connections, on raw sockets: each gets one clear answer or none, and nobody's place is lost."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from engines.serving.settings import Limits
from tests.engines.serving.running import PATIENCE, Running, running, until
from tests.engines.serving.test_app import photograph
from tests.engines.serving.workers import SLOW, acting_worker
from tests.tiny import Tiny

LIMITS = Limits(
    pixels=100_000, body=200_000, held=250_000, queue=4, idle_seconds=1.0, body_seconds=2.0, send_seconds=1.0, connections=6
)


@pytest.fixture(scope="module")
def service(tiny: Tiny) -> Iterator[Running]:
    with running(tiny.onnx, LIMITS, target=acting_worker) as found:
        yield found


def connected(service: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), PATIENCE)


def head(length: int | str, query: str = "", more: str = "") -> bytes:
    return f"POST /v1/deblur{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def everything(client: socket.socket) -> bytes:
    """Until the service closes."""
    found = b""
    while data := client.recv(65536):
        found += data
    return found


def status(answer: bytes) -> int:
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    assert b'{"detail":' in answer
    return int(answer.split()[1])


def test_a_body_that_does_not_come_is_408(service: Running) -> None:
    with connected(service) as client:
        client.sendall(head(1000) + b"x")
        assert status(everything(client)) == 408


def test_a_body_that_drips_is_408(service: Running) -> None:
    with connected(service) as client:
        client.sendall(head(1000))
        client.settimeout(0.2)
        answer = b""
        end = time.monotonic() + PATIENCE
        while not answer and time.monotonic() < end:
            client.sendall(b"x")
            try:
                answer = client.recv(65536)
            except TimeoutError:
                continue
        assert status(answer) == 408


def test_a_head_that_does_not_come_is_408_and_silence_is_closed(service: Running) -> None:
    with connected(service) as client:
        client.sendall(b"POST /v1/deb")
        assert status(everything(client)) == 408
    with connected(service) as client:
        assert everything(client) == b""


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        head(-1),
        head("ten"),
        head(1, more="Content-Length: 2\r\n"),
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 20_000,
        head(0, more="Transfer-Encoding: chunked\r\n").replace(b"Content-Length: 0\r\n", b"") + b"zz\r\n",
    ],
    ids=["garbage", "negative", "no number", "two lengths", "no host", "long header", "bad chunk"],
)
def test_what_is_no_http_is_400(service: Running, request_bytes: bytes) -> None:
    with connected(service) as client:
        client.sendall(request_bytes)
        assert status(everything(client)) == 400


def test_a_body_over_the_limit_is_413_by_its_length_and_by_its_chunks(service: Running) -> None:
    with connected(service) as client:
        client.sendall(head(10**12))
        assert status(everything(client)) == 413
    with connected(service) as client:
        client.sendall(head(0, more="Transfer-Encoding: chunked\r\n").replace(b"Content-Length: 0\r\n", b""))
        for _ in range(5):
            client.sendall(b"c350\r\n" + bytes(50_000) + b"\r\n")
        assert status(everything(client)) == 413


def test_bodies_that_together_are_too_much_are_429(service: Running) -> None:
    with connected(service) as first, connected(service) as second:
        first.sendall(head(190_000) + bytes(150_000))
        time.sleep(0.3)
        second.sendall(head(190_000) + bytes(150_000))
        answer = everything(second)
        assert status(answer) == 429
        assert b"retry-after: " in answer


def test_more_connections_than_the_limit_are_503_and_places_come_back(service: Running) -> None:
    until(lambda: service.ask("GET", "/healthz").status == 200)
    clients = [connected(service) for _ in range(LIMITS.connections)]
    try:
        time.sleep(0.2)
        with connected(service) as client:
            assert status(everything(client)) == 503
    finally:
        for client in clients:
            client.close()
    until(lambda: service.ask("GET", "/healthz").status == 200)


def test_a_client_that_leaves_frees_its_place(service: Running) -> None:
    data = photograph("png")
    for _ in range(3):
        with connected(service) as client:
            client.sendall(head(len(data), f"?strength={SLOW}") + data)
            until(lambda: service.pool.working == 1)
        until(lambda: service.pool.working == 0)
    assert service.deblur(data).status == 200
    assert service.pool.replaced == 0


def test_a_client_that_leaves_while_it_sends_leaves_nothing(service: Running) -> None:
    with connected(service) as client:
        client.sendall(head(100_000) + bytes(50_000))
    assert service.deblur(photograph("png")).status == 200
    until(lambda: service.pool.working == 0)


def test_a_client_that_does_not_take_its_answer_is_cut_off(tiny: Tiny) -> None:
    large = replace(LIMITS, body=30_000_000, held=60_000_000, body_seconds=20.0)
    with running(tiny.onnx, large, target=acting_worker) as service, connected(service) as client:
        data = photograph("png") + bytes(20_000_000)  # after the end of the picture, where decoders do not look
        client.sendall(head(len(data)) + data)
        client.recv(1)  # the answer is under way
        assert service.connections == 1
        until(lambda: service.connections == 0)
        assert service.deblur(photograph("png")).status == 200
