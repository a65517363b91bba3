"""Batches to learn from: crops whose place and turn depend on the seed and their number alone.

Sample ``n`` of a run is the same picture, the same crop, turned the same way, whoever loads it, with however many
workers, before or after an interruption. Over every ``len(pairs)`` samples, an epoch, each pair comes exactly once.

Loading is done by threads: decoding and copying release Python's lock, the pictures kept in memory are shared without
effort, and a killed run leaves no processes behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import count
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimo.learning.datasets import Pair, Samples, Watch, check_pairs, read_pair
from mimo.learning.recipe import Augmentation

Batch = tuple[Tensor, Tensor]
"""Blurry and sharp, each uint8 (N,P,P,3): a quarter of the bytes to move to a device."""

# The two things that are drawn; the tags keep the two streams of random numbers apart.
_ORDER, _CROP = 1, 2


class Pictures:
    """Decoded pairs, of which as many stay in memory as a budget holds; the others are decoded each time.

    Safe to use from several threads. A pair, once kept, stays: with random access no other choice would hit more often.
    One that is given several times, to be seen more often, is kept once.
    """

    def __init__(self, pairs: Sequence[Pair], budget: int, *, smallest: int = 1, cropped: int | None = None) -> None:
        """``budget``: bytes; ``smallest``: the shortest side in pixels accepted of the first ``cropped`` pairs (all)."""
        self.pairs = tuple(pairs)
        self.budget = budget
        self.kept = 0
        """Bytes in memory."""
        self._smallest = smallest
        self._cropped = len(self.pairs) if cropped is None else cropped
        self._cache: dict[tuple[Pair, int], tuple[Samples, Samples]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, place: int) -> tuple[Samples, Samples]:
        """Raises :class:`~mimo.errors.ImageError` or :class:`~mimo.errors.DataError` for a pair that cannot be used."""
        key = self._key(place)
        found = self._cache.get(key)
        if found is not None:
            return found
        read = read_pair(*key)
        size = sum(picture.nbytes for picture in read)
        with self._lock:
            if key not in self._cache and self.kept + size <= self.budget:
                self._cache[key] = read
                self.kept += size
        return read

    def _key(self, place: int) -> tuple[Pair, int]:
        """The pair and the shortest side that it must have."""
        return self.pairs[place], self._smallest if place < self._cropped else 1

    @property
    def kept_pairs(self) -> int:
        """How many of the pairs are in memory."""
        return sum(self._key(place) in self._cache for place in range(len(self)))

    def check(self, *, workers: int, watch: Watch | None = None) -> None:
        """Decode everything once, which also fills the memory. Raises :class:`~mimo.errors.DataError`."""
        check_pairs(self.pairs, self.__getitem__, workers=workers, watch=watch)


class Crops:
    """An endless row of samples, numbered from 0, cut from the first ``pairs`` of ``pictures``."""

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
        pair = self.pictures[place]
        height, width = pair[0].shape[:2]
        top = int(draw.integers(height - self.patch + 1))
        left = int(draw.integers(width - self.patch + 1))
        # Everything is drawn whether it is used or not: an augmentation more or less leaves the others as they were.
        flip, turns, channels = bool(draw.integers(2)), int(draw.integers(4)), draw.permutation(3)

        def cut(picture: Samples) -> Samples:
            crop = picture[top : top + self.patch, left : left + self.patch]
            if "flips" in self.augment and flip:
                crop = crop[:, ::-1]
            if "rot90" in self.augment:
                crop = np.rot90(crop, turns)
            return crop[..., channels] if "rgb-shuffle" in self.augment else crop

        return cut(pair[0]), cut(pair[1])

    def batch(self, first: int, size: int, *, pinned: bool = False) -> Batch:
        """Samples ``first`` to ``first + size - 1``; ``pinned``: in memory that a GPU reads on its own."""
        shape = (size, self.patch, self.patch, 3)
        blur, sharp = (torch.empty(shape, dtype=torch.uint8, pin_memory=pinned) for _ in range(2))
        for row, number in enumerate(range(first, first + size)):
            for target, crop in zip((blur, sharp), self[number], strict=True):
                np.copyto(target[row].numpy(), crop)
        return blur, sharp

    def _draw_order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((_ORDER, self.seed, epoch)).permutation(self.pairs)


def batches(crops: Crops, *, first: int, size: int, stride: int, workers: int, pinned: bool = False) -> Generator[Batch]:
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
