from __future__ import annotations

from collections import Counter
from contextlib import closing
from itertools import islice
from pathlib import Path
from threading import active_count

import numpy as np
import pytest
import torch

from mimo.errors import ImageError
from mimo.learning.crops import Crops, Pictures, batches, to_device
from mimo.learning.datasets import Pair, open_pairs, read_pair
from tests.mimo.learning.training_data import write_pairs

PLENTY = 2**30


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, ...]:
    return open_pairs(write_pairs(tmp_path_factory.mktemp("pairs"), 5))


def test_an_epoch_holds_every_pair_once_and_the_next_another_order(pairs: tuple[Pair, ...]) -> None:
    crops = Crops(Pictures(pairs, PLENTY), patch=16)
    places = [crops.place(number) for number in range(20)]
    assert [epoch for epoch, _ in places] == sorted([0, 1, 2, 3] * 5)
    orders = {tuple(place for epoch, place in places if epoch == wanted) for wanted in range(4)}
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert len(orders) > 1


def test_sample_n_is_the_same_whoever_loads_it(pairs: tuple[Pair, ...]) -> None:
    def loaded(budget: int, workers: int, first: int, count: int) -> list[torch.Tensor]:
        crops = Crops(Pictures(pairs, budget), patch=16, augment=("flips", "rot90", "rgb-shuffle"), seed=3)
        with closing(batches(crops, first=first, size=2, stride=2, workers=workers)) as loading:
            return [torch.stack(batch) for batch in islice(loading, count)]

    whole = loaded(PLENTY, 0, 0, 8)
    assert all(torch.equal(a, b) for a, b in zip(whole, loaded(0, 3, 0, 8), strict=True))
    # Begun in the middle of an epoch, as a continued run does.
    assert all(torch.equal(a, b) for a, b in zip(whole[3:], loaded(PLENTY, 1, 6, 5), strict=True))
    # Two processes take alternate batches of one.
    crops = Crops(Pictures(pairs, PLENTY), patch=16, augment=("flips", "rot90", "rgb-shuffle"), seed=3)
    for rank in range(2):
        with closing(batches(crops, first=2 * rank, size=2, stride=4, workers=0)) as loading:
            assert all(torch.equal(torch.stack(batch), whole[2 * step + rank]) for step, batch in enumerate(islice(loading, 4)))


def test_seeds_differ(pairs: tuple[Pair, ...]) -> None:
    pictures = Pictures(pairs, PLENTY)
    one, other = (Crops(pictures, patch=16, seed=seed).batch(0, 8)[0] for seed in (0, 1))
    assert not torch.equal(one, other)


def test_blur_and_sharp_are_cut_and_turned_alike(pairs: tuple[Pair, ...]) -> None:
    twins = tuple(Pair(pair.name, pair.sharp, pair.sharp) for pair in pairs)
    crops = Crops(Pictures(twins, PLENTY), patch=16, augment=("flips", "rot90", "rgb-shuffle"))
    blur, sharp = crops.batch(0, 40)
    assert torch.equal(blur, sharp)


def test_augmentations_do_what_they_are_called(pairs: tuple[Pair, ...]) -> None:
    pictures = Pictures(pairs[:1], PLENTY)
    plain = Crops(pictures, patch=16)
    for augment, turns in (
        ("flips", {"same", "flipped"}),
        ("rot90", {"same", "rot1", "rot2", "rot3"}),
    ):
        seen: Counter[str] = Counter()
        turned = Crops(pictures, patch=16, augment=(augment,))  # type: ignore[arg-type]
        for number in range(60):
            before, after = plain[number][0], turned[number][0]
            known = {"same": before, "flipped": before[:, ::-1], **{f"rot{k}": np.rot90(before, k) for k in (1, 2, 3)}}
            seen[next(name for name, picture in known.items() if np.array_equal(picture, after))] += 1
        assert set(seen) == turns and min(seen.values()) >= 5
    shuffled = Crops(pictures, patch=16, augment=("rgb-shuffle",))
    for number in range(10):
        assert np.array_equal(np.sort(plain[number][0], axis=2), np.sort(shuffled[number][0], axis=2))
    assert any(not np.array_equal(plain[number][0], shuffled[number][0]) for number in range(10))


def test_crops_reach_every_corner_and_a_patch_may_be_the_whole_picture(pairs: tuple[Pair, ...]) -> None:
    assert np.array_equal(Crops(Pictures(pairs[:1], 0), patch=48)[0][0][:, :1].shape, (48, 1, 3))
    picture = read_pair(pairs[0])[0]
    crops = Crops(Pictures(pairs[:1], PLENTY), patch=44)
    corners = {(0, 0), (0, 20), (4, 0), (4, 20)}
    for number in range(600):
        for top, left in list(corners):
            if np.array_equal(crops[number][0], picture[top : top + 44, left : left + 44]):
                corners.discard((top, left))
    assert not corners


def test_the_budget_is_kept(pairs: tuple[Pair, ...]) -> None:
    pair_bytes = 2 * 48 * 64 * 3
    pictures = Pictures(pairs, 2 * pair_bytes + 10)
    pictures.check(workers=3)
    assert (pictures.kept_pairs, pictures.kept) == (2, 2 * pair_bytes)
    assert Pictures(pairs, 0).kept_pairs == 0


def test_a_pair_given_twice_is_kept_once(pairs: tuple[Pair, ...]) -> None:
    pictures = Pictures((pairs[0], pairs[1], pairs[0]), 2 * 2 * 48 * 64 * 3)
    pictures.check(workers=1)
    assert (pictures.kept_pairs, pictures.kept) == (3, pictures.budget)
    assert pictures[2][0] is pictures[0][0]


def test_validation_pictures_may_be_smaller_than_a_patch(pairs: tuple[Pair, ...]) -> None:
    Pictures(pairs, 0, smallest=64, cropped=0).check(workers=1)


def test_a_picture_that_vanishes_during_the_run_is_named_and_the_threads_end(tmp_path: Path) -> None:
    pairs = open_pairs(write_pairs(tmp_path, 2))
    before = active_count()
    with closing(batches(Crops(Pictures(pairs, 0), patch=16), first=0, size=2, stride=2, workers=2)) as loading:
        next(loading)
        pairs[1].blur.unlink()
        with pytest.raises(ImageError, match=r"scene_000001\.png"):
            for _ in range(10):
                next(loading)
    assert active_count() == before


@pytest.mark.parametrize("channels_last", [True, False])
def test_samples_become_numbers_between_0_and_1(channels_last: bool) -> None:
    batch = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    x = to_device(batch, torch.device("cpu"), channels_last=channels_last)
    assert x.shape == (2, 3, 16, 16)
    assert torch.equal((x * 255).round().to(torch.uint8), batch.permute(0, 3, 1, 2))
    assert x.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
