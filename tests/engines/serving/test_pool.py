"""The queue and its workers, without HTTP."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import engines.serving.pool as pools
from engines.serving.pool import BusyError, FailedError, Pool
from engines.serving.settings import Opened
from engines.serving.worker import Order, run_worker
from tests.engines.serving.running import PATIENCE, until
from tests.engines.serving.workers import DEADLY, PLAIN, SLOW, STUCK, acting_worker


def order(strength: float) -> Order:
    return Order(16, 16, strength)


@contextmanager
def started(count: int = 1, queue: int = 2) -> Iterator[Pool]:
    pool = Pool(Opened(Path("none.onnx")), count, queue, target=acting_worker)
    pool.start()
    try:
        until(lambda: pool.workers_ready == count)
        yield pool
    finally:
        pool.close()
        assert not any(slot.is_alive() for slot in pool._slots)


def test_each_photograph_gets_its_own_answer() -> None:
    with started(2, queue=20) as pool:
        jobs = [pool.submit(bytes([number]) * 1000, order(PLAIN)) for number in range(20)]
        for number, job in enumerate(jobs):
            answer = job.result.result(PATIENCE)
            assert answer.data == bytes([number]) * 1000
            assert answer.seconds.keys() == {"queue", "decode", "inference", "encode"}


def test_a_full_queue_says_when_to_come_again_and_a_place_given_up_is_free_at_once() -> None:
    with started(1, queue=2) as pool:
        working, second, third = (pool.submit(b"x", order(SLOW)) for _ in range(3))
        until(lambda: working.state == "working")
        with pytest.raises(BusyError, match="2 photographs are waiting") as caught:
            pool.submit(b"x", order(SLOW))
        assert caught.value.retry_after >= 1
        assert pool.place_of(third) == 1
        pool.give_up(second)
        assert pool.place_of(third) == 0
        fourth = pool.submit(b"x", order(PLAIN))
        pool.give_up(working)
        pool.give_up(third)
        assert fourth.result.result(PATIENCE).data == b"x"
        assert pool.replaced == 0, "between tiles a worker gives up by itself"


def test_progress_is_told_by_tiles() -> None:
    with started() as pool:
        job = pool.submit(b"x", order(SLOW))
        until(lambda: job.tile >= 2)
        assert job.tiles == 600
        left = pool.seconds_left(job)
        assert left is not None
        assert left > 1
        pool.give_up(job)


def test_a_worker_that_will_not_give_up_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "PATIENCE", 0.2)
    with started() as pool:
        job = pool.submit(b"x", order(STUCK))
        until(lambda: job.state == "working")
        (before,) = pool.processes
        pool.give_up(job)
        assert pool.submit(b"y", order(PLAIN)).result.result(PATIENCE).data == b"y"
        assert pool.processes != [before]
        assert pool.replaced == 1


def test_a_killed_worker_is_replaced_and_its_photograph_done_by_the_next() -> None:
    with started() as pool:
        job = pool.submit(b"x", order(SLOW))
        until(lambda: job.state == "working")
        (before,) = pool.processes
        os.kill(before, signal.SIGKILL)
        until(lambda: job.state == "working" and job.tries == 2)
        assert pool.processes != [before]
        assert pool.replaced == 1
        pool.give_up(job)


def test_a_worker_killed_while_it_is_idle_costs_no_photograph() -> None:
    with started() as pool:
        os.kill(pool.processes[0], signal.SIGKILL)
        assert pool.submit(b"x", order(PLAIN)).result.result(PATIENCE).data == b"x"
        until(lambda: pool.replaced == 1)


def test_a_photograph_that_ends_two_workers_is_not_tried_on_a_third() -> None:
    with started(1) as pool:
        job = pool.submit(b"x", order(DEADLY))
        with pytest.raises(FailedError, match="the worker ended"):
            job.result.result(PATIENCE)
        assert pool.submit(b"y", order(PLAIN)).result.result(PATIENCE).data == b"y"
        assert pool.replaced == 2


def test_what_waits_at_the_end_is_told_so() -> None:
    with started(1) as pool:
        working, waiting = pool.submit(b"x", order(SLOW)), pool.submit(b"x", order(PLAIN))
        until(lambda: working.state == "working")
        pool.close()
        with pytest.raises(FailedError, match="being stopped"):
            waiting.result.result(PATIENCE)


def test_a_model_that_cannot_be_opened_is_said_once(tmp_path: Path) -> None:
    reasons: list[str] = []
    pool = Pool(Opened(tmp_path / "missing.onnx"), 1, 1, fatal=reasons.append, target=run_worker)
    pool.start()
    try:
        until(lambda: reasons)
    finally:
        pool.close()
    assert "missing.onnx does not exist" in reasons[0]
