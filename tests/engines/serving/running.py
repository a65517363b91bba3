"""A real service on loopback, in this process, and a client that says what it got."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvicorn

from engines.serving.app import build_app
from engines.serving.connections import server_options
from engines.serving.pool import Pool
from engines.serving.run import listening, model_facts
from engines.serving.settings import Limits, Opened
from engines.serving.worker import run_worker

PATIENCE = 30.0
"""Seconds that a test waits for what happens in a moment."""


@dataclass(frozen=True)
class Reply:
    """An answer, whole."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def detail(self) -> str:
        """The sentence of a refusal, which is one, with a cure."""
        content = json.loads(self.body)
        assert content.keys() == {"detail"}
        sentence: str = content["detail"]
        assert "\n" not in sentence
        assert "Traceback" not in sentence
        assert sentence.endswith(".")
        return sentence


@dataclass(frozen=True)
class Running:
    """A service that answers."""

    port: int
    pool: Pool
    server: uvicorn.Server

    @property
    def connections(self) -> int:
        """Open now."""
        return len(self.server.server_state.connections)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        seconds: float = PATIENCE,
    ) -> Reply:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()

    def deblur(self, body: bytes, query: str = "", **headers: str) -> Reply:
        """``POST /v1/deblur``; names of headers with underscores."""
        return self.ask("POST", f"/v1/deblur{query}", body, {name.replace("_", "-"): value for name, value in headers.items()})


def until(what: Callable[[], object]) -> None:
    """Wait for ``what`` to be true, and fail when it is not in time."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@contextmanager
def running(
    model: Path,
    limits: Limits | None = None,
    *,
    workers: int = 1,
    target: Callable[[Connection, Opened], None] = run_worker,
    token: str | None = None,
    hosts: frozenset[str] | None = frozenset({"127.0.0.1"}),
    ready: bool = True,
) -> Iterator[Running]:
    """The service around ``model``; with ``ready`` its workers are warm."""
    limits = limits or Limits()
    pool = Pool(Opened(model, "onnxruntime"), workers, limits.queue, target=target)
    facts: dict[str, Any] = model_facts(model) if model.is_file() else {}
    app = build_app(pool, limits, facts, token=token, hosts=hosts)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on", **server_options(limits)))
    with listening("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: server.started)
            if ready:
                until(lambda: pool.workers_ready == workers)
            yield Running(listener.getsockname()[1], pool, server)
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive(), "the service does not end"
