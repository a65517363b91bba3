"""How far a number is from the floor: the least a network must do, and what this device can do at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec

from benchmarks.cost import Work
from benchmarks.machine import core_count, last_level_cache_bytes
from benchmarks.units import Bytes, Count, Fraction, Rate, Seconds
from engines.runtimes.base import Device

COPY_BYTES = 256 << 20
"""The smallest buffer that is copied on a CPU; four times the last-level caches where that is more."""
LARGEST_COPY_BYTES = 1 << 30


@dataclass(frozen=True)
class Ceiling:
    """What a device was seen to do: a matrix product in one precision, and a copy. None where it was not measured.

    ``product_seconds`` and ``copy_seconds`` are all repetitions, of which the best counts: ``2 * product_size**3``
    operations, and ``copy_bytes`` read and written together.
    """

    label: str
    device: Device
    compute: str
    flop_per_second: Rate | None
    bytes_per_second: Rate | None
    method: str
    """How it was measured: library, size, threads, repetitions; or why not."""
    product_size: Count | None = None
    product_seconds: tuple[Seconds, ...] = ()
    copy_bytes: Bytes | None = None
    copy_seconds: tuple[Seconds, ...] = ()


@dataclass(frozen=True)
class Limits:
    """A median beside its floor.

    ``compute_fraction`` and ``copy_fraction``: of the ceiling's arithmetic and traffic, what the least work took up.
    Above 1 is possible: a runtime may need fewer multiplications than are counted (Winograd), may hold weights in a
    smaller type than the file, or keep all of it in a cache. ``floor_seconds``: the time in which the ceiling would do it.
    """

    macs: Count | None
    bytes: Bytes
    compute_fraction: Fraction | None
    copy_fraction: Fraction | None
    floor_seconds: Seconds | None
    ceiling: str | None
    """Its label."""
    layers_fraction: Fraction | None = None
    """Of the median, the per-layer roofline: the sum over the graph's nodes of the longer of arithmetic and traffic, each node
    reading its inputs and writing its outputs. Above 1 is possible: a runtime that fuses nodes moves less."""


def limits_of(work: Work, ceiling: Ceiling | None, median_seconds: float) -> Limits:
    """Put a median of one restoration beside the floor that ``work`` and ``ceiling`` give."""
    compute = None
    if ceiling is not None and ceiling.flop_per_second is not None and work.macs is not None:
        compute = 2 * work.macs / ceiling.flop_per_second
    copy = None
    if ceiling is not None and ceiling.bytes_per_second is not None:
        copy = work.bytes / ceiling.bytes_per_second
    layers = None
    if work.nodes and ceiling is not None and ceiling.flop_per_second and ceiling.bytes_per_second:
        flops, rate = ceiling.flop_per_second, ceiling.bytes_per_second
        layers = sum(max(2 * count / flops, moved / rate) for count, moved in work.nodes)
    return Limits(
        macs=work.macs,
        bytes=work.bytes,
        compute_fraction=None if compute is None else compute / median_seconds,
        copy_fraction=None if copy is None else copy / median_seconds,
        floor_seconds=max((seconds for seconds in (compute, copy) if seconds is not None), default=None),
        ceiling=None if ceiling is None else ceiling.label,
        layers_fraction=None if layers is None else layers / median_seconds,
    )


def better(before: Ceiling, after: Ceiling) -> Ceiling:
    """The higher product and the higher copy of two measurements of one ceiling, each with its own repetitions."""
    product = max(before, after, key=lambda one: one.flop_per_second or 0.0)
    copy = max(before, after, key=lambda one: one.bytes_per_second or 0.0)
    return replace(
        product,
        bytes_per_second=copy.bytes_per_second,
        copy_bytes=copy.copy_bytes,
        copy_seconds=copy.copy_seconds,
        method=f"{product.method if product is copy else f'{product.method} (product); {copy.method} (copy)'}; "
        "the better of two measurements, after the first row and after the last",
    )


def measure_ceiling(device: Device, compute: str, *, clock: Callable[[], float] = time.perf_counter) -> Ceiling:
    """The best of several products of two large square matrices in ``compute``, and of several copies of a large buffer.

    Products with torch (fp32 without TensorFloat-32, tf32 with it, fp16, bf16; a processor that only emulates one is measured
    as it is), or with NumPy on a CPU without torch (fp32 only). What cannot be measured is None, and ``method`` says why. Takes
    some seconds, and memory for three matrices or two buffers, which it gives back.
    """
    with _torch(device, compute) if find_spec("torch") else _numpy(device, compute) as library:
        product = _measure_product(library, clock)
        copy = _measure_copy(library, clock)
    return Ceiling(
        label=f"{device} {compute}",
        device=device,
        compute=compute,
        flop_per_second=product.per_second,
        bytes_per_second=copy.per_second,
        method=f"{library.name}: {product.method}; {copy.method}",
        product_size=product.size,
        product_seconds=product.seconds,
        copy_bytes=copy.size,
        copy_seconds=copy.seconds,
    )


Prepare = Callable[[int], Callable[[], None]]
"""Takes a size, makes the operands, and returns a call that runs and waits for the end. Raises RuntimeError if it cannot."""


@dataclass(frozen=True)
class _Library:
    name: str
    product: Prepare
    """Of two square matrices; the size is a side."""
    copy: Prepare
    """Of a buffer, ``_Scale.copies_in_a_row`` times; the size is in bytes."""
    copy_bytes: int
    scale: _Scale


@dataclass(frozen=True)
class _Scale:
    """How large the work must be for a clock of the host's, in seconds and sides of matrices."""

    first_side: int
    enough_seconds: float
    """From which a product is timed well enough to tell the side that takes ``product_seconds``."""
    product_seconds: float
    largest_side: int
    products: int
    copies: int
    copies_in_a_row: int
    sides: tuple[int, ...] = ()
    """Measured one after the other where there are any, and the best rate counts: the largest product of a GPU is not always
    the fastest, as it runs into the limit of its power."""


_CPU = _Scale(256, 0.05, 0.4, 8192, products=5, copies=10, copies_in_a_row=1)
# Many short ones, so that the clocks have time to rise; several copies in a row, so that launching is no part of the time.
_GPU = _Scale(2048, 0.002, 0.02, 16384, products=20, copies=20, copies_in_a_row=16, sides=(4096, 8192, 16384))


@dataclass(frozen=True)
class _Rate:
    per_second: float | None
    size: int | None
    seconds: tuple[float, ...]
    method: str


def _measure_product(library: _Library, clock: Callable[[], float]) -> _Rate:
    scale = library.scale
    if scale.sides:
        rates = [_product_of(library, side, clock) for side in scale.sides]
        best = max(rates, key=lambda rate: rate.per_second or 0.0)
        sides = ", ".join(str(side) for side in scale.sides)
        return replace(best, method=f"{best.method}, the fastest of the sides {sides}") if best.per_second else best
    try:
        side = scale.first_side
        while (seconds := _repeat(library.product(side), 1, clock)[0]) < scale.enough_seconds and side < scale.largest_side:
            side *= 2
        side = min(scale.largest_side, 256 * max(1, round(side * (scale.product_seconds / seconds) ** (1 / 3) / 256)))
    except (RuntimeError, MemoryError) as error:
        return _Rate(None, None, (), f"product not measured ({_first_line(error)})")
    return _product_of(library, side, clock)


def _product_of(library: _Library, side: int, clock: Callable[[], float]) -> _Rate:
    try:
        times = _repeat(library.product(side), library.scale.products, clock)
    except (RuntimeError, MemoryError) as error:
        return _Rate(None, None, (), f"product not measured ({_first_line(error)})")
    return _Rate(2 * side**3 / min(times), side, times, f"best of {len(times)} products of two {side}x{side} matrices")


def _measure_copy(library: _Library, clock: Callable[[], float]) -> _Rate:
    scale = library.scale
    moved = 2 * library.copy_bytes * scale.copies_in_a_row
    try:
        times = _repeat(library.copy(library.copy_bytes), scale.copies, clock)
    except (RuntimeError, MemoryError) as error:
        return _Rate(None, None, (), f"copy not measured ({_first_line(error)})")
    row = f", {scale.copies_in_a_row} in a row" if scale.copies_in_a_row > 1 else ""
    method = f"best of {len(times)} copies of {library.copy_bytes >> 20} MiB{row}, bytes read and written"
    return _Rate(moved / min(times), moved, times, method)


def _repeat(run: Callable[[], None], repetitions: int, clock: Callable[[], float]) -> tuple[float, ...]:
    """Seconds of each repetition, after one that is not timed: it touches the memory and makes the library ready."""
    run()
    times = []
    for _ in range(repetitions):
        start = clock()
        run()
        times.append(max(clock() - start, 1e-9))
    return tuple(times)


@contextmanager
def _torch(device: Device, compute: str) -> Iterator[_Library]:
    import torch

    dtype = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}.get(compute)
    scale = _GPU if device == "cuda" else _CPU

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def product(side: int) -> Callable[[], None]:
        if dtype is None:
            raise RuntimeError(f"none in {compute} is known here")
        # Not zeros or ones: a GPU draws less power for those and keeps a higher clock.
        left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(left)

        def run() -> None:
            torch.mm(left, right, out=out)
            wait()

        return run

    def copy_on_gpu(size: int) -> Callable[[], None]:
        source = torch.ones(size, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)

        def run() -> None:
            for _ in range(scale.copies_in_a_row):
                target.copy_(source)
            wait()

        return run

    name = f"torch {torch.__version__}"
    if device == "cuda" and not torch.cuda.is_available():
        yield _Library(name, _refuse("torch sees no CUDA device"), _refuse("torch sees no CUDA device"), 0, scale)
        return
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if compute == "tf32" else "highest")
    try:
        with torch.inference_mode():
            if device == "cuda":
                copy_bytes = min(LARGEST_COPY_BYTES, torch.cuda.mem_get_info()[0] // 8)
                yield _Library(f"{name}, {torch.cuda.get_device_name()}", product, copy_on_gpu, copy_bytes, scale)
            else:
                name = f"{name}, {torch.get_num_threads()} threads"
                yield _Library(name, product, _copy_on_cpu, _copy_bytes_on_cpu(), scale)
    finally:
        torch.set_float32_matmul_precision(precision)
        if device == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def _numpy(device: Device, compute: str) -> Iterator[_Library]:
    import numpy as np

    def product(side: int) -> Callable[[], None]:
        random = np.random.default_rng(0)
        left, right = (random.standard_normal((side, side), np.float32) for _ in range(2))
        out = np.empty_like(left)

        def run() -> None:
            np.matmul(left, right, out=out)

        return run

    name = f"NumPy {np.__version__}"
    if device == "cuda":
        yield _Library(name, _refuse("torch is not installed"), _refuse("torch is not installed"), 0, _GPU)
    else:
        multiply = product if compute == "fp32" else _refuse(f"without torch none in {compute}")
        yield _Library(name, multiply, _copy_on_cpu, _copy_bytes_on_cpu(), _CPU)


def _copy_on_cpu(size: int) -> Callable[[], None]:
    """One part on each core, with NumPy: its memcpy writes past the caches, without reading first what it overwrites."""
    import numpy as np

    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    cores = core_count()
    parts = list(zip(np.array_split(target, cores), np.array_split(source, cores), strict=True))
    pool = ThreadPoolExecutor(cores)

    def run() -> None:
        for copied in [pool.submit(np.copyto, *part) for part in parts]:
            copied.result()

    return run


def _refuse(reason: str) -> Prepare:
    def prepare(size: int) -> Callable[[], None]:
        raise RuntimeError(reason)

    return prepare


def _copy_bytes_on_cpu() -> int:
    return min(LARGEST_COPY_BYTES, max(COPY_BYTES, 4 * last_level_cache_bytes()))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
