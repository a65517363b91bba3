"""The queue and the workers behind it: one line of photographs, and each free worker takes the first of it.

    submit() -> waiting -> a worker -> result            a client that leaves, or time that runs out: give_up()
                   ^          |
                   +----------+ once, if the worker's process dies

A thread of the service stands for each worker: it starts the process, hands it photographs, and replaces it when it dies or
does not give up within :data:`PATIENCE`.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from engines.serving.settings import Opened
from engines.serving.worker import Order, run_worker
from mimo.errors import MimoError

PATIENCE = 10.0
"""Seconds that a worker has to give up a photograph, which it does between two tiles; then its process is replaced."""
LOOK = 0.05
"""Seconds between two looks at whether a photograph in work is still wanted."""
TRIES = 2
"""Processes that may die over one photograph. The second one died of it, in all likelihood."""
LONGEST_PAUSE = 30.0
"""Seconds before a worker that will not start is tried again, at most."""


class BusyError(MimoError):
    """The queue is full. ``retry_after``: whole seconds in which a place is likely."""

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class RefusedError(MimoError):
    """The photograph, or what was asked of it, is at fault."""


class FailedError(MimoError):
    """The service is at fault, or its machine."""


@dataclass(frozen=True, eq=False)
class Answer:
    """A restored photograph's file, what could not be kept of its source, and the seconds each stage took."""

    data: bytes
    notes: tuple[str, ...]
    seconds: dict[str, float]


@dataclass(eq=False)
class Job:
    """One photograph from its arrival to its answer. ``result`` raises :class:`RefusedError` or :class:`FailedError`."""

    number: int
    data: bytes
    order: Order
    arrived: float
    result: Future[Answer] = field(default_factory=Future)
    state: Literal["waiting", "working", "done"] = "waiting"
    tile: int = 0
    tiles: int | None = None
    begun: float | None = None
    unwanted: threading.Event = field(default_factory=threading.Event)
    tries: int = 0


class Pool:
    """``count`` workers and one queue of at most ``queue`` waiting photographs. Any thread may call its methods."""

    def __init__(
        self,
        opened: Opened,
        count: int,
        queue: int,
        *,
        fatal: Callable[[str], None] = lambda reason: None,
        ready: Callable[[], None] = lambda: None,
        target: Callable[[Connection, Opened], None] = run_worker,
    ) -> None:
        """``fatal`` is told why the first engine cannot be opened at all; ``ready`` is called when it was."""
        self.count, self.queue = count, queue
        self.engine: dict[str, Any] | None = None
        """What a ready worker said of its engine."""
        self.replaced = 0
        """Processes that died or were ended because they would not give up, and that others stand in for."""
        self._opened, self._target = opened, target
        self._fatal, self._tell_ready = fatal, ready
        self._waiting: deque[Job] = deque()
        self._working: set[Job] = set()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._numbers = 0
        self._seconds_each = 1.0
        self._slots = [_Slot(self, number) for number in range(count)]

    def start(self) -> None:
        """Start the workers' processes; returns at once."""
        for slot in self._slots:
            slot.start()

    @property
    def workers_ready(self) -> int:
        """Workers that are warm."""
        return sum(slot.is_ready for slot in self._slots)

    @property
    def waiting(self) -> int:
        """Photographs that no worker has taken yet."""
        return len(self._waiting)

    @property
    def working(self) -> int:
        """Photographs being restored."""
        return len(self._working)

    @property
    def processes(self) -> list[int]:
        """The process ids of the workers there are now."""
        return [process.pid for slot in self._slots if (process := slot.process) is not None and process.pid is not None]

    def check_room(self) -> None:
        """Raise :class:`BusyError` when a photograph that came now would find the queue full."""
        with self._changed:
            if len(self._waiting) + len(self._working) >= self.queue + self.count:
                raise BusyError(
                    f"{len(self._waiting)} photographs are waiting, which is all the queue holds: send it again later.",
                    self._retry_after(),
                )

    def submit(self, data: bytes, order: Order) -> Job:
        """Put a photograph into the queue. Raises :class:`BusyError` when it is full."""
        with self._changed:
            self.check_room()
            self._numbers += 1
            job = Job(self._numbers, data, order, time.monotonic())
            self._waiting.append(job)
            self._changed.notify()
        return job

    def give_up(self, job: Job) -> None:
        """Nobody wants ``job`` any more: its place in the queue is free at once, its worker after the tile in work."""
        job.unwanted.set()
        with self._changed, suppress(ValueError):
            self._waiting.remove(job)

    def place_of(self, job: Job) -> int:
        """How many photographs are before ``job`` in the queue."""
        with self._changed:
            return self._waiting.index(job) if job in self._waiting else 0

    def seconds_left(self, job: Job) -> float | None:
        """Until ``job`` is done, by its own tiles and by what photographs took lately; None while nothing is known."""
        if job.state == "done":
            return 0.0
        if job.begun is None:
            return self._seconds_each * (self.place_of(job) / self.count + 1)
        spent = time.monotonic() - job.begun
        if job.tile and job.tiles:
            return spent / job.tile * (job.tiles - job.tile)
        return max(self._seconds_each - spent, 0.0)

    def close(self) -> None:
        """End the workers. What waits or is in work fails; let it be finished first."""
        self._closing.set()
        with self._changed:
            waiting = [*self._waiting]
            self._waiting.clear()
            for job in self._working:
                job.unwanted.set()
            self._changed.notify_all()
        for job in waiting:
            _fail(job, FailedError("the service is being stopped: send the photograph again later."))
        for slot in self._slots:
            if slot.is_alive():
                slot.join()

    def _retry_after(self) -> int:
        seconds = self._seconds_each * (len(self._waiting) + 1) / self.count
        return min(max(1, math.ceil(seconds)), 600)

    def _take(self, seconds: float) -> Job | None:
        with self._changed:
            if not self._waiting:
                self._changed.wait(seconds)
            if self._closing.is_set() or not self._waiting:
                return None
            job = self._waiting.popleft()
            self._working.add(job)
            return job

    def _put_back(self, job: Job) -> None:
        job.state, job.begun, job.tile, job.tiles = "waiting", None, 0, None
        with self._changed:
            self._working.discard(job)
            self._waiting.appendleft(job)
            self._changed.notify()

    def _finished(self, job: Job, seconds: float | None) -> None:
        job.state = "done"
        with self._changed:
            self._working.discard(job)
            if seconds is not None:
                self._seconds_each += 0.2 * (seconds - self._seconds_each)


class _Died(Exception):
    """The worker's process is gone."""


class _Slot(threading.Thread):
    """The place of one worker, whose processes may change."""

    def __init__(self, pool: Pool, number: int) -> None:
        super().__init__(name=f"worker-{number}", daemon=True)
        self._pool = pool
        self.is_ready = False
        self.process: BaseProcess | None = None

    def run(self) -> None:
        pool = self._pool
        pause = 0.0
        while not pool._closing.is_set():
            # Spawned: a fork would share locks and threads of this process with the runtimes.
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(target=pool._target, args=(theirs, pool._opened), daemon=True)
            process.start()
            theirs.close()
            self.process = process
            try:
                self._attend(ours, process)
            except (_Died, EOFError, OSError):
                pass
            finally:
                # One that worked is replaced at once; one that does not start is not tried all the time.
                pause = 0.0 if self.is_ready else min(max(1.0, 2 * pause), LONGEST_PAUSE)
                self.is_ready = False
                ours.close()
                process.kill()
                process.join()
            if not pool._closing.wait(pause):
                pool.replaced += 1

    def _attend(self, pipe: Connection, process: BaseProcess) -> None:
        pool = self._pool
        while not pipe.poll(0.5):
            if pool._closing.is_set():
                return
            if not process.is_alive():
                raise _Died
        message = json.loads(pipe.recv_bytes())
        if message["kind"] == "refused":
            if pool.engine is None:
                pool._fatal(message["reason"])
            raise _Died
        first, pool.engine = pool.engine is None, message["engine"]
        self.is_ready = True
        if first:
            pool._tell_ready()
        while not pool._closing.is_set():
            job = pool._take(0.5)
            if job is not None:
                self._do(job, pipe, process)
            elif not process.is_alive():
                raise _Died

    def _do(self, job: Job, pipe: Connection, process: BaseProcess) -> None:
        """Have ``job`` done. Raises :class:`_Died` with the job put back, or failed."""
        pool = self._pool
        if not process.is_alive():
            pool._put_back(job)  # it died before, of something else
            raise _Died
        job.state, job.begun = "working", time.monotonic()
        job.tries += 1
        try:
            pipe.send_bytes(json.dumps({"kind": "photograph", "number": job.number, "order": asdict(job.order)}).encode())
            pipe.send_bytes(job.data)
            self._follow(job, pipe, process)
        except (_Died, EOFError, OSError):
            if job.unwanted.is_set() or job.tries >= TRIES:
                pool._finished(job, None)
                _fail(
                    job, FailedError("the worker ended while it restored this photograph: send it again, or send it smaller.")
                )
            else:
                pool._put_back(job)
            raise _Died from None

    def _follow(self, job: Job, pipe: Connection, process: BaseProcess) -> None:
        pool = self._pool
        asked: float | None = None
        while True:
            if job.unwanted.is_set() and asked is None:
                asked = time.monotonic()
                pipe.send_bytes(json.dumps({"kind": "give up", "number": job.number}).encode())
            if asked is not None and time.monotonic() - asked > PATIENCE:
                raise _Died
            if not pipe.poll(LOOK):
                if not process.is_alive() and not pipe.poll():
                    raise _Died
                continue
            message = json.loads(pipe.recv_bytes())
            begun = job.begun or job.arrived
            match message["kind"]:
                case "step":
                    job.tile, job.tiles = message["tile"], message["tiles"]
                    continue
                case "done":
                    data = pipe.recv_bytes()
                    pool._finished(job, time.monotonic() - begun)
                    seconds = {"queue": begun - job.arrived, **message["seconds"]}
                    _settle(job, Answer(data, tuple(message["notes"]), seconds))
                case "refused":
                    pool._finished(job, None)
                    _fail(job, RefusedError(message["reason"]))
                case "failed":
                    pool._finished(job, None)
                    _fail(job, FailedError(message["reason"]))
                case _:
                    pool._finished(job, None)
                    _fail(job, FailedError("given up."))
            return


def _settle(job: Job, answer: Answer) -> None:
    if job.result.set_running_or_notify_cancel():
        job.result.set_result(answer)


def _fail(job: Job, error: MimoError) -> None:
    if job.result.set_running_or_notify_cancel():
        job.result.set_exception(error)
