"""One worker: a process with an engine that restores one photograph after the other, as its pipe tells it.

A process and not a thread: a picture that makes a decoder or a runtime crash, or that takes too long within one tile, costs
one process, which is replaced. On the pipe go JSON and bytes alone, so that nothing that comes back could run code.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from engines.serving.settings import Opened
from mimo.errors import EngineError, ImageError, MimoError, ShapeError


class GivenUpError(Exception):
    """Nobody waits for the photograph any more."""


@dataclass(frozen=True)
class Order:
    """What is asked for beside the photograph itself: arguments of :func:`~engines.photographs.restore_bytes`."""

    height: int
    width: int
    strength: float = 1.0
    tile: int | None = None
    context: int | None = None


def run_worker(pipe: Connection, opened: Opened) -> None:
    """Open, warm up, say so, then work until the pipe closes.

    Signals that end the service are for its first process, which lets the photographs in work be finished.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        _work(pipe, opened)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # The service is gone. Not by way of the interpreter's end, at which a runtime's threads may still compute.
        os._exit(0)


def _work(pipe: Connection, opened: Opened) -> None:
    from engines.runtimes.opening import open_engine
    from mimo.telemetry import no_telemetry

    no_telemetry()
    try:
        engine = open_engine(opened.model, opened.runtime, opened.device, precision=opened.precision, threads=opened.threads)
        warm_up(engine)
    except MimoError as error:
        _say(pipe, kind="refused", reason=str(error))
        return
    facts = {"name": engine.name, "runtime": engine.runtime, "device": engine.device, "compute": engine.compute}
    _say(pipe, kind="ready", engine={**facts, "threads": engine.threads})
    with engine:
        while True:
            order = json.loads(pipe.recv_bytes())
            if order["kind"] == "photograph":
                _restore(pipe, engine, order["number"], Order(**order["order"]), pipe.recv_bytes())


def warm_up(engine: Any) -> None:
    """One photograph of the size that the engine is tuned for, or a small one. Raises :class:`EngineError`."""
    import numpy as np

    from engines.runtimes.base import restore

    height, width = (engine.shapes.opt.height, engine.shapes.opt.width) if engine.shapes else (256, 256)
    restore(engine, np.zeros((1, 3, height, width), np.float32))


def check_order(engine: Any, order: Order) -> None:
    """Raise :class:`ShapeError` where an order asks for more memory or work than the service gives by itself."""
    from engines.tiles import default_tile

    if order.context is not None and order.context > engine.context:
        raise ShapeError(f"context must be at most {engine.context}, with which a tile equals the whole, got {order.context}.")
    most = int(default_tile(engine, order.height, order.width, engine.context, True) ** 0.5)
    if order.tile is not None and order.tile > most:
        raise ShapeError(
            f"tile must be at most {most} for this photograph, got {order.tile}: leave it out, or make it smaller."
        )


def _restore(pipe: Connection, engine: Any, number: int, order: Order, data: bytes) -> None:
    from engines.photographs import restore_bytes

    began = time.perf_counter()
    marks: list[float] = []

    def step(tile: int, tiles: int) -> None:
        if tile in (0, tiles):
            marks.append(time.perf_counter())
        while pipe.poll():
            message = json.loads(pipe.recv_bytes())
            if message["kind"] == "give up" and message["number"] == number:
                raise GivenUpError
        _say(pipe, kind="step", tile=tile, tiles=tiles)

    try:
        check_order(engine, order)
        restored = restore_bytes(engine, data, tile=order.tile, context=order.context, strength=order.strength, step=step)
    except GivenUpError:
        _say(pipe, kind="given up")
    except (ImageError, ShapeError) as error:
        _say(pipe, kind="refused", reason=str(error))
    except EngineError as error:
        _say(pipe, kind="failed", reason=str(error))
    except MemoryError:
        _say(
            pipe,
            kind="failed",
            reason="there is not enough memory for this photograph: send it smaller, or with a smaller tile.",
        )
    else:
        decoded, computed, ended = *marks, time.perf_counter()
        seconds = {"decode": decoded - began, "inference": computed - decoded, "encode": ended - computed}
        _say(pipe, kind="done", seconds=seconds, notes=restored.notes)
        pipe.send_bytes(restored.data)


def _say(pipe: Connection, **message: Any) -> None:
    pipe.send_bytes(json.dumps(message).encode())
