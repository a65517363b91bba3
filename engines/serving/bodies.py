"""Bodies of requests: a photograph as it is, or as the one file of a form, read within limits and into memory alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers
from starlette.requests import Request

from engines.serving.answers import Refusal
from engines.serving.settings import Limits

_SLICE = 1 << 20
# It warns of every malformed form, which its sender is told already: a client could fill the log.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class Held:
    """The bytes of all bodies in memory, those in the queue included."""

    def __init__(self, limits: Limits) -> None:
        self.bytes = 0
        self._limits = limits

    @contextmanager
    def reserved(self) -> Iterator[Reserved]:
        """A share that grows with a body, and is free again after the block."""
        share = Reserved(self, self._limits)
        try:
            yield share
        finally:
            self.bytes -= share.bytes


class Reserved:
    """One body's share."""

    def __init__(self, held: Held, limits: Limits) -> None:
        self.bytes = 0
        self._held, self._limits = held, limits

    def add(self, count: int) -> None:
        """Raises :class:`Refusal` when the body, or all of them, would be too many bytes."""
        if self.bytes + count > self._limits.body:
            raise too_large(self._limits)
        if self._held.bytes + count > self._limits.held:
            raise Refusal(429, "memory", "too many photographs are arriving at once: send it again later.", retry_after=5)
        self.bytes += count
        self._held.bytes += count


def too_large(limits: Limits) -> Refusal:
    """For a body over the limit."""
    return Refusal(413, "body", f"the body is larger than {limits.body // 2**20} MiB: send a smaller file.")


async def read_photograph(request: Request, share: Reserved, limits: Limits) -> bytes:
    """The photograph's file. Raises :class:`Refusal`, and ``ClientDisconnect`` when the client left meanwhile."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.body:
        raise too_large(limits)
    body = await _read(request, share, limits)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data":
        body = await _only_file(request.headers, body)
    if not body:
        raise Refusal(
            422, "photograph", "there is no photograph in the request: send one as the body, or as a form's only file."
        )
    return body


async def _read(request: Request, share: Reserved, limits: Limits) -> bytes:
    chunks: list[bytes] = []
    stream = request.stream().__aiter__()
    try:
        async with asyncio.timeout(limits.body_seconds):
            while True:
                async with asyncio.timeout(limits.idle_seconds):
                    chunk = await anext(stream, None)
                if chunk is None:
                    return b"".join(chunks)
                share.add(len(chunk))
                chunks.append(chunk)
    except TimeoutError:
        raise Refusal(408, "slow", "the body did not arrive in time: send it faster, or a smaller file.") from None


class _Form:
    """The parts of a form, kept in memory: Starlette's own reader keeps them in temporary files."""

    def __init__(self, boundary: bytes) -> None:
        self.is_whole = False
        self.files: list[bytearray] = []
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = bytearray(), bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._header,
                "on_headers_finished": self._check,
                "on_part_data": lambda data, start, end: self.files[-1].extend(memoryview(data)[start:end]),
                "on_end": self._end,
            },
        )

    def write(self, data: bytes) -> None:
        """Raises ``FormParserError``, and ``ValueError`` for a part that is no file, or a second one."""
        self._parser.write(data)

    def _begin(self) -> None:
        self._headers.clear()

    def _header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _check(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"filename" not in options or self.files:
            raise ValueError
        self.files.append(bytearray())

    def _end(self) -> None:
        self.is_whole = True


async def _only_file(headers: Headers, body: bytes) -> bytes:
    refusal = Refusal(
        422,
        "form",
        "the form is not one with a single file in it: send the photograph as its only field, options in the query.",
    )
    _, options = parse_options_header(headers.get("content-type"))
    try:
        form = _Form(options.get(b"boundary", b""))
        for start in range(0, len(body), _SLICE):
            form.write(body[start : start + _SLICE])
            await asyncio.sleep(0)  # others have their turn
    except (FormParserError, ValueError) as error:
        raise refusal from error
    if not form.is_whole or len(form.files) != 1:
        raise refusal
    return bytes(form.files[0])
