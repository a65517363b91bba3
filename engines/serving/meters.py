"""What ``/metrics`` tells, in Prometheus' terms."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from engines.serving.pool import Pool

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STAGES = ("queue", "decode", "inference", "encode")
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120)


class Meters:
    """One registry for one service; Python's own figures are left to whoever watches the process."""

    def __init__(self, pool: Pool) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("mimo_requests", "Answers by path and status.", ("path", "status"), registry=registry)
        self.rejections = Counter("mimo_rejections", "Requests that were refused, by reason.", ("reason",), registry=registry)
        self.pixels = Counter("mimo_pixels", "Pixels of the photographs restored.", registry=registry)
        self.whole = Histogram(
            "mimo_request_seconds", "From a photograph's last byte to its answer.", buckets=_BUCKETS, registry=registry
        )
        self._stages = Histogram(
            "mimo_stage_seconds", "Of photographs restored, by stage.", ("stage",), buckets=_BUCKETS, registry=registry
        )
        for stage in STAGES:
            self._stages.labels(stage)
        for name, text, read in (
            ("mimo_queue_depth", "Photographs waiting for a worker.", lambda: pool.waiting),
            ("mimo_in_work", "Photographs being restored.", lambda: pool.working),
            ("mimo_workers_ready", "Workers that are warm.", lambda: pool.workers_ready),
            ("mimo_workers_replaced", "Worker processes that others stand in for.", lambda: pool.replaced),
        ):
            Gauge(name, text, registry=registry).set_function(read)

    def stages(self, seconds: dict[str, float]) -> None:
        """Note one photograph's seconds."""
        for stage in STAGES:
            self._stages.labels(stage).observe(seconds[stage])

    def text(self) -> bytes:
        """In the text format, version 0.0.4."""
        return generate_latest(self._registry)
