"""What a client is told when it does not get what it asked for: a status, and one sentence with cause and cure as JSON."""

from __future__ import annotations

import json

from starlette.responses import JSONResponse

from mimo.wording import one_line, shortened


class Refusal(Exception):
    """An answer other than the one hoped for. ``reason`` is a word for the counters."""

    def __init__(self, status: int, reason: str, sentence: str, *, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.reason, self.retry_after = status, reason, retry_after


def refused(refusal: Refusal) -> JSONResponse:
    """``{"detail": "..."}``, with ``Retry-After`` where there is a time for it."""
    headers = {} if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse({"detail": sentence(str(refusal))}, refusal.status, headers)


def sentence(text: str) -> str:
    """``text`` as one line of bounded length."""
    return one_line(shortened(text))


def raw(status: int, phrase: str, text: str, *, retry_after: int | None = None) -> bytes:
    """A whole answer as it goes over the wire, for connections on which there is no request to answer by other means."""
    body = json.dumps({"detail": text}).encode()
    more = "" if retry_after is None else f"retry-after: {retry_after}\r\n"
    head = (
        f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"{more}connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
