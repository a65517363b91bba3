"""Connections, bounded: how many are open, how long one may say nothing, how long a client may take its answer.

Uvicorn bounds none of the three: it has a time limit between two requests of one connection only.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from engines.serving.answers import raw
from engines.serving.settings import Limits

LINGER = 1.0
"""Seconds that an answer has to be read before a connection is cut: at once, what the client still sends would undo it."""
LOOK = 0.5
"""Seconds between two looks at a connection."""


def bounded(limits: Limits) -> type[asyncio.Protocol]:
    """The class of the service's connections."""
    return type("Connection", (_Connection,), {"limits": limits})


class _Connection(H11Protocol):
    limits: Limits
    _timer: asyncio.TimerHandle | None = None
    _parting = False
    _has_begun = False
    """Something of a request's head has arrived."""
    _since = 0.0
    """When the connection was made or the last answer was complete, by the loop's clock."""
    _unsent_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        if len(self.connections) > self.limits.connections:
            self._part(raw(503, "Service Unavailable", "too many connections are open: try again later.", retry_after=5))
        else:
            self._timer = self.loop.call_later(LOOK, self._look)

    def data_received(self, data: bytes) -> None:
        if self._parting:
            return
        self._has_begun = True
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._since, self._has_begun = self.loop.time(), False
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """As JSON, like every other answer."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
            return
        self._part(raw(400, "Bad Request", "the request is not valid HTTP: use an HTTP client, and send what its headers say."))
        if self.cycle is not None and not self.cycle.response_complete:
            # Whoever waits for the rest of the body learns that none will come.
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _look(self) -> None:
        now = self.loop.time()
        self._timer = self.loop.call_later(LOOK, self._look)
        if not self.transport.get_write_buffer_size():
            self._unsent_since = None
        elif self._unsent_since is None:
            self._unsent_since = now
        elif now - self._unsent_since > self.limits.send_seconds:
            self.transport.abort()
            return
        is_waiting = self.cycle is None or self.cycle.response_complete
        if is_waiting and now - self._since > self.limits.idle_seconds and self._unsent_since is None:
            if self._has_begun and self.cycle is None:
                self._part(raw(408, "Request Timeout", "the request's head did not arrive in time: send it faster."))
            else:
                self.transport.close()

    def _part(self, answer: bytes) -> None:
        """Send a last answer, and close when the client has had time to read it."""
        if self._parting:
            return
        self._parting = True
        self.transport.write(answer)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER, self.transport.abort)

    def shutdown(self) -> None:
        if not self._parting:
            super().shutdown()


def server_options(limits: Limits) -> dict[str, Any]:
    """For ``uvicorn.Config``."""
    return {
        "http": bounded(limits),
        "ws": "none",
        "h11_max_incomplete_event_size": limits.head,
        "timeout_keep_alive": 5,
        # What is in the queue when the service is told to stop is finished.
        "timeout_graceful_shutdown": int(limits.seconds + limits.body_seconds) + 1,
        "server_header": False,
        "proxy_headers": False,
    }
