"""CUDA through PyCUDA, with a stand-in for it that ends as the real one does when a context stays current."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines.runtimes.cuda import PyCuda, cuda_is_here, open_cuda
from mimo.errors import EngineError


class FakeDriver(ModuleType):
    """As much of ``pycuda.driver`` as is used; every call but init needs the context current in this thread."""

    class Error(Exception):
        """As the driver's."""

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.stack: list[object] = []
        self.flags: list[int] = []
        self.most = 1 << 30

    def init(self) -> None: ...

    def Device(self, number: int) -> Any:  # noqa: N802
        context = SimpleNamespace(push=lambda: self.stack.append(self), pop=self.stack.pop)
        return SimpleNamespace(retain_primary_context=lambda: context)

    def _check(self) -> None:
        if not self.stack:
            raise self.Error("invalid device context")

    def mem_alloc(self, size: int) -> Any:
        self._check()
        if size > self.most:
            raise self.Error("out of memory")
        return _Memory(self)

    def Stream(self, flags: int = 0) -> Any:  # noqa: N802
        self._check()
        self.flags.append(flags)
        return SimpleNamespace(handle=7, synchronize=self._check)

    def Event(self) -> Any:  # noqa: N802
        self._check()
        return SimpleNamespace(record=lambda stream: self._check(), synchronize=self._check, time_till=lambda end: 2.0)

    def memset_d8_async(self, *_: Any) -> None:
        self._check()

    memcpy_htod_async = memcpy_dtoh_async = memset_d8_async


class _Memory:
    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver

    def __int__(self) -> int:
        return 4096

    def free(self) -> None:
        self.driver._check()


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    fake = FakeDriver()
    package = ModuleType("pycuda")
    package.driver = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", fake)
    return fake


def test_no_context_stays_current_which_would_abort_the_process_at_its_end(driver: FakeDriver) -> None:
    cuda = PyCuda()
    stream = cuda.create_stream()
    pointer = cuda.allocate(16)
    array = np.zeros(4, np.float32)
    cuda.fill(pointer, 0xFF, 16, stream)
    cuda.upload(pointer, array, stream)
    cuda.download(array, pointer, stream)
    cuda.synchronize(stream)
    assert cuda.time(stream, lambda: None) == 0.002
    cuda.free(pointer)
    cuda.destroy_stream(stream)
    assert driver.stack == []
    assert driver.flags == [1], "a stream that does not wait for the default one"


def test_what_the_driver_raises_is_our_error_and_leaves_no_context_current(driver: FakeDriver) -> None:
    cuda = PyCuda()
    driver.most = 8
    with pytest.raises(EngineError, match="out of memory"):
        cuda.allocate(16)
    assert driver.stack == []


def test_whether_there_is_a_gpu_is_what_opening_says(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    assert cuda_is_here()
    open_cuda("pycuda")
    monkeypatch.setitem(sys.modules, "pycuda", None)
    assert not cuda_is_here()
