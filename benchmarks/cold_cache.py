"""Emptying the last-level cache before a sample: what a first request after other work meets, not a loop's tenth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from engines.runtimes.base import Device
from engines.runtimes.cuda import open_cuda

SIZE = 256 * 2**20
"""Bytes written: more than the last-level cache of any processor or GPU that we know."""


@contextmanager
def cold_cache(device: Device) -> Iterator[Callable[[], None]]:
    """A call that writes 256 MiB and waits until that is done, so that nothing of the last run is left in the cache.

    Raises :class:`~mimo.errors.EngineUnavailable` for ``cuda`` without one.
    """
    if device == "cpu":
        memory = np.zeros(SIZE // 8, np.int64)

        def write() -> None:
            memory.__iadd__(1)

        yield write
        return
    cuda = open_cuda()
    stream, pointer = cuda.create_stream(), cuda.allocate(SIZE)

    def fill() -> None:
        cuda.fill(pointer, 0, SIZE, stream)
        cuda.synchronize(stream)

    try:
        yield fill
    finally:
        cuda.free(pointer)
        cuda.destroy_stream(stream)
