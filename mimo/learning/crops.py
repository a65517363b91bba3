"""Batches to learn from: crops whose place and turn depend on the seed and their number alone.

Sample ``n`` of a run is the same picture, the same crop, turned the same way, whoever loads it, with however many
workers, before or after an interruption. Over every ``len(pairs)`` samples, an epoch, each pair comes exactly once.

Loading is done by threads: decoding and copying release Python's lock, the pictures kept in memory are shared without
effort, and a killed run leaves no processes behind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimo.learning.datasets import Pair, Photograph, Samples, Watch, check_pairs, read_pair, read_photograph
from mimo.learning.recipe import Augmentation

Batch = tuple[Tensor, Tensor]
"""Blurry and sharp, each uint8 (N,P,P,3): a quarter of the bytes to move to a device."""

# The two things that are drawn; the tags keep the two streams of random numbers apart.
_ORDER, _CROP = 1, 2


class Pictures:
    """Decoded pairs and photographs, of which as many stay in memory as a budget holds; the others are decoded each time.

    Safe to use from several threads. A pair, once kept, stays: with random access no other choice would hit more often.
    One that is given several times, to be seen more often, is kept once.
    """

    def __init__(
        self, pairs: Sequence[Pair | Photograph], budget: int, *, smallest: int = 1, cropped: int | None = None
    ) -> None:
        """``budget``: bytes; ``smallest``: the shortest side in pixels accepted of the first ``cropped`` pairs (all)."""
        self.pairs = tuple(pairs)
        self.budget = budget
        self.kept = 0
        """Bytes in memory."""
        self._smallest = smallest
        self._cropped = len(self.pairs) if cropped is None else cropped
        self._cache: dict[tuple[Pair | Photograph, int], tuple[Samples, ...]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, place: int) -> tuple[Samples, ...]:
        """Blurry and sharp picture of a pair, or the one of a photograph.

        Raises :class:`~mimo.errors.ImageError` or :class:`~mimo.errors.DataError` for a pair that cannot be used."""
        key = self._key(place)
        found = self._cache.get(key)
        if found is not None:
            return found
        one, smallest = key
        read = read_pair(one, smallest) if isinstance(one, Pair) else (read_photograph(one, smallest),)
        size = sum(picture.nbytes for picture in read)
        with self._lock:
            if key not in self._cache and self.kept + size <= self.budget:
                self._cache[key] = read
                self.kept += size
        return read

    def _key(self, place: int) -> tuple[Pair | Photograph, int]:
        """The pair or photograph and the shortest side that it must have."""
        return self.pairs[place], self._smallest if place < self._cropped else 1

    @property
    def kept_pairs(self) -> int:
        """How many of the pairs are in memory."""
        return sum(self._key(place) in self._cache for place in range(len(self)))

    def check(self, *, workers: int, watch: Watch | None = None) -> None:
        """Decode everything once, which also fills the memory. Raises :class:`~mimo.errors.DataError`."""
        check_pairs(self.pairs, self.__getitem__, workers=workers, watch=watch)


@dataclass(frozen=True)
class Turn:
    """How a crop is augmented; calling it gives a view."""

    flip: bool
    quarters: int
    channels: tuple[int, ...] | None

    @classmethod
    def drawn(cls, draw: np.random.Generator, augment: frozenset[Augmentation]) -> Turn:
        # Everything is drawn whether it is used or not: an augmentation more or less leaves the others as they were.
        flip, quarters, channels = bool(draw.integers(2)), int(draw.integers(4)), draw.permutation(3)
        return cls(
            "flips" in augment and flip,
            quarters if "rot90" in augment else 0,
            tuple(channels.tolist()) if "rgb-shuffle" in augment else None,
        )

    def __call__(self, crop: Samples) -> Samples:
        if self.flip:
            crop = crop[:, ::-1]
        if self.quarters:
            crop = np.rot90(crop, self.quarters)
        return crop if self.channels is None else crop[..., self.channels]


class Source(ABC):
    """An endless row of samples, numbered from 0; every one is made from the seed and its number alone."""

    patch: int
    """Side of a crop in pixels."""
    pairs: int
    """Samples in an epoch."""

    @abstractmethod
    def __getitem__(self, number: int) -> tuple[Samples, Samples]:
        """Blurry and sharp crop (P,P,3), cut and turned alike."""

    def batch(self, first: int, size: int, *, pinned: bool = False) -> Batch:
        """Samples ``first`` to ``first + size - 1``; ``pinned``: in memory that a GPU reads on its own."""
        shape = (size, self.patch, self.patch, 3)
        blur, sharp = (torch.empty(shape, dtype=torch.uint8, pin_memory=pinned) for _ in range(2))
        for row, number in enumerate(range(first, first + size)):
            for target, crop in zip((blur, sharp), self[number], strict=True):
                np.copyto(target[row].numpy(), crop)
        return blur, sharp


class Mixture(Source):
    """Samples of two sources, ``part`` of them from ``real``, evenly spread; an epoch is as long as both together."""

    def __init__(self, real: Source, shaken: Source, part: float) -> None:
        """``part``: above 0, below 1. Both have the same patch."""
        self.patch = real.patch
        self.pairs = real.pairs + shaken.pairs
        self._real, self._shaken, self._part = real, shaken, part

    def __getitem__(self, number: int) -> tuple[Samples, Samples]:
        before = int(number * self._part)
        is_real = int((number + 1) * self._part) > before
        return self._real[before] if is_real else self._shaken[number - before]


class Crops(Source):
    """Samples cut from the first ``pairs`` of ``pictures``; over an epoch each comes once."""

    def __init__(
        self, pictures: Pictures, *, patch: int, augment: Sequence[Augmentation] = (), seed: int = 0, pairs: int | None = None
    ) -> None:
        """``patch``: side of a crop in pixels; no picture may be smaller."""
        self.pictures = pictures
        self.patch = patch
        self.augment = frozenset(augment)
        self.seed = seed
        self.pairs = len(pictures) if pairs is None else pairs
        self._order = lru_cache(maxsize=4)(self._draw_order)

    def place(self, number: int) -> tuple[int, int]:
        """Epoch and pair of sample ``number``."""
        epoch, within = divmod(number, self.pairs)
        return epoch, int(self._order(epoch)[within])

    def __getitem__(self, number: int) -> tuple[Samples, Samples]:
        """Blurry and sharp crop (P,P,3), cut and turned alike; views, not copies."""
        epoch, place = self.place(number)
        draw = np.random.default_rng((_CROP, self.seed, epoch, place))
        blur, sharp = self.pictures[place]
        height, width = blur.shape[:2]
        top = int(draw.integers(height - self.patch + 1))
        left = int(draw.integers(width - self.patch + 1))
        turn = Turn.drawn(draw, self.augment)
        rows, columns = slice(top, top + self.patch), slice(left, left + self.patch)
        return turn(blur[rows, columns]), turn(sharp[rows, columns])

    def _draw_order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((_ORDER, self.seed, epoch)).permutation(self.pairs)


def batches(crops: Source, *, first: int, size: int, stride: int, workers: int, pinned: bool = False) -> Generator[Batch]:
    """Batches without end: samples ``first`` .. ``first + size - 1``, then the same ``stride`` samples further on.

    ``stride`` is ``size`` times the number of processes that share the work. ``workers`` threads load ahead; 0 loads in
    the calling thread. Close the iterator to end the threads. Raises what :class:`Pictures` raises.
    """
    if workers == 0:
        yield from (crops.batch(start, size, pinned=pinned) for start in count(first, stride))
    starts = count(first, stride)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="loader")
    try:
        ahead: deque[Future[Batch]] = deque()
        while True:
            while len(ahead) < 2 * workers:
                ahead.append(pool.submit(crops.batch, next(starts), size, pinned=pinned))
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def to_device(batch: Tensor, device: torch.device, *, channels_last: bool) -> Tensor:
    """uint8 (N,P,P,3) -> float32 (N,3,P,P) in [0,1] on ``device``; ``channels_last`` is then the order in memory."""
    planes = batch.to(device, non_blocking=True).permute(0, 3, 1, 2)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return planes.to(torch.float32, memory_format=layout).div_(255)
