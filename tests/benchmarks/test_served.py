"""The server's own times, from its counters."""

from __future__ import annotations

import pytest

from benchmarks.served import machine_states, server_times

FIRST = {"after_samples": 0, "load": 1.0, "server_requests": 10, "server_queue_ns": 100, "server_input_ns": 5}
FIRST |= {"server_inference_ns": 1000, "server_output_ns": 0}
LAST = {"after_samples": 4, "load": 2.0, "server_requests": 14, "server_queue_ns": 4_000_100, "server_input_ns": 45}
LAST |= {"server_inference_ns": 8_000_001_000, "server_output_ns": 400}


def test_times_are_means_of_what_was_answered_meanwhile() -> None:
    times = server_times([FIRST, LAST])
    assert times is not None
    assert times.requests == 4
    assert (times.queue, times.input, times.inference, times.output) == pytest.approx((1e-3, 1e-8, 2.0, 1e-7))
    assert times.compute == pytest.approx(2.0 + 1.1e-7)


@pytest.mark.parametrize("states", [[FIRST, FIRST], [LAST, FIRST], [{"after_samples": 0}, {"after_samples": 4}]])
def test_nothing_answered_counters_that_began_anew_and_no_server_give_none(states: list[dict[str, float]]) -> None:
    assert server_times(states) is None


def test_the_counters_are_no_state_of_the_machine() -> None:
    assert machine_states([FIRST, LAST]) == [{"after_samples": 0, "load": 1.0}, {"after_samples": 4, "load": 2.0}]
