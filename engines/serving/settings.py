"""What bounds the service, and what its engines are opened with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engines.runtimes.table import Device, Precision, Runtime


@dataclass(frozen=True)
class Opened:
    """What a worker opens: the arguments of :func:`~engines.runtimes.opening.open_engine`."""

    model: Path
    runtime: Runtime | Literal["auto"] = "auto"
    device: Device | Literal["auto"] = "auto"
    precision: Precision | Literal["auto"] = "auto"
    threads: int = 1
    """Of one worker, on the CPU."""


@dataclass(frozen=True)
class Limits:
    """Everything a client could ask for too much of. A request over one of these has one clear answer."""

    pixels: int = 50_000_000
    """Of a photograph, by its header, before anything is decoded: 413."""
    body: int = 128 * 2**20
    """Bytes of a request's body: 413."""
    held: int = 512 * 2**20
    """Bytes of all bodies held at once, those still arriving included: 429."""
    queue: int = 16
    """Photographs waiting for a worker: 429 with ``Retry-After``."""
    seconds: float = 120.0
    """From the last byte of the body to the answer: 503, and the work is given up."""
    body_seconds: float = 60.0
    """For the whole body to arrive: 408."""
    idle_seconds: float = 10.0
    """Without a byte of a request that has begun, or of the head of the next one: 408, or the connection is closed."""
    send_seconds: float = 120.0
    """For a client to take its answer, then the connection is cut."""
    connections: int = 128
    """Open at once: 503."""
    head: int = 16_384
    """Bytes of a request's first line and headers: 400."""
