from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mimo.errors import DataError
from mimo.learning import synthesis
from mimo.learning.datasets import Samples, open_pairs, read_pair
from mimo.learning.shake import to_linear, to_samples, trajectory
from mimo.learning.styles import STYLES, Shake
from mimo.learning.synthesis import along, make_pair, synthesize
from tests.mimo.learning.training_data import picture, write_picture


@pytest.fixture(scope="module")
def sharp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharp")
    for number in range(3):
        write_picture(folder / f"photo{number}.jpg", picture(number, 160, 200))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(sharp: Path, tmp_path: Path) -> None:
    assert synthesize(sharp, tmp_path / "a", 4, seed=7, workers=1) == 4
    assert synthesize(sharp, tmp_path / "b", 4, seed=7, workers=3) == 4
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    synthesize(sharp, tmp_path / "c", 4, seed=8)
    assert not set(contents(tmp_path / "a").values()) & set(contents(tmp_path / "c").values())


def test_a_set_is_finished_and_grows_without_changing(sharp: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    synthesize(sharp, tmp_path / "set", 2, seed=1, watch=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 2), (2, 2)]
    first = contents(tmp_path / "set")
    next(iter((tmp_path / "set" / "sharp").iterdir())).unlink()
    assert synthesize(sharp, tmp_path / "set", 5, seed=1) == 4
    grown = contents(tmp_path / "set")
    assert len(grown) == 10 and first.items() <= grown.items()
    # Every photograph before any of them a second time.
    first_three = {pair.scene for pair in open_pairs(tmp_path / "set") if int(pair.name[-10:-4]) < 3}
    assert first_three == {"photo0", "photo1", "photo2"}


def test_what_is_made_is_a_dataset(sharp: Path, tmp_path: Path) -> None:
    synthesize(sharp, tmp_path, 3, seed=2)
    for pair in open_pairs(tmp_path):
        blur, truth = read_pair(pair)
        assert blur.std() > 5 and not np.array_equal(blur, truth)


def test_sets_do_not_mix(sharp: Path, tmp_path: Path) -> None:
    synthesize(sharp, tmp_path / "set", 1, seed=1)
    with pytest.raises(DataError, match="another seed"):
        synthesize(sharp, tmp_path / "set", 1, seed=2)
    write_picture(tmp_path / "other" / "blur" / "mine.png", picture(0))
    with pytest.raises(DataError, match="mimo synthesize did not make"):
        synthesize(sharp, tmp_path / "other", 1, seed=1)


def test_no_photographs_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        synthesize(tmp_path / "nowhere", tmp_path / "set", 1, seed=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="found it empty"):
        synthesize(tmp_path / "empty", tmp_path / "set", 1, seed=1)
    with pytest.raises(DataError, match="--count"):
        synthesize(tmp_path / "empty", tmp_path / "set", 0, seed=1)
    with pytest.raises(DataError, match=r"--longest must be at least the shortest track, 3 pixels, got 2"):
        synthesize(tmp_path / "empty", tmp_path / "set", 1, seed=1, shake=replace(STYLES["video"], longest=2))
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("longest", 1e30), ("longest", float("inf")), ("longest", float("nan")), ("shortest", 0.0), ("shortest", float("nan"))],
)
def test_a_length_without_bound_or_that_is_no_number_is_refused(sharp: Path, tmp_path: Path, option: str, value: float) -> None:
    with pytest.raises(DataError, match=f"--{option} must be from 0.5 to 200 pixels, got"):
        synthesize(
            sharp,
            tmp_path / "set",
            1,
            seed=1,
            shake=Shake().between(value, None) if option == "shortest" else Shake().between(None, value),
        )
    assert not (tmp_path / "set").exists()


def test_a_count_without_bound_is_refused(sharp: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--count must be from 1 to 10,000,000, got 1e"):
        synthesize(sharp, tmp_path / "set", 10**30, seed=1)


def test_no_more_than_a_few_pairs_are_asked_for_ahead(sharp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def fail(*_: object) -> tuple[Samples, Samples]:
        made.append(1)
        raise DataError("enough")

    monkeypatch.setattr(synthesis, "make_pair", fail)
    with pytest.raises(DataError, match="enough"):
        synthesize(sharp, tmp_path / "set", 5_000_000, seed=1, workers=2)
    assert len(made) <= 8


def test_photographs_exchanged_for_others_of_the_same_size_do_not_mix(sharp: Path, tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    shutil.copytree(sharp, photographs)
    synthesize(photographs, tmp_path / "set", 1, seed=1)
    victim = photographs / "photo1.jpg"
    before = victim.stat()
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match="other photographs"):
        synthesize(photographs, tmp_path / "set", 1, seed=1)
    shutil.copytree(sharp, tmp_path / "moved")
    assert synthesize(tmp_path / "moved", tmp_path / "set", 1, seed=1) == 0


def test_mild_and_strong_blur_both_occur() -> None:
    shake = Shake()
    extents = np.exp(np.random.default_rng(0).uniform(np.log(shake.shortest), np.log(shake.longest), 400))
    assert 0.3 < float(np.mean(extents < 5)) < 0.6 and float(np.mean(extents > 20)) > 0.1
    photograph = picture(5, 200, 240)
    gone = []
    for extent in (1.0, 20.0):
        fixed = Shake(shortest=extent, longest=extent, noise=0, scales=(0.7, 0.7))
        blur, truth = make_pair(photograph, np.random.default_rng(3), fixed)
        gone.append(float(np.abs(blur.astype(float) - truth).mean()))
    assert gone[1] > 3 * gone[0] > 0


@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_trajectories_have_the_length_asked_for_and_stay_centred(jitter: float) -> None:
    for seed in range(20):
        track = trajectory(np.random.default_rng(seed), 30.0, jitter, 0.01)
        box = np.ptp(track[:, :2], axis=0)
        assert 24 < float(np.hypot(*box)) <= 30.001
        assert np.abs(track.mean(axis=0)).max() < 1e-9
        # The mean over the poses is taken off after the largest turn was set.
        assert np.abs(track[:, 2]).max() <= 0.02
        assert 8 <= len(track) <= 96


def test_smooth_trajectories_are_smooth_and_trembling_ones_are_not() -> None:
    def roughness(jitter: float) -> float:
        tracks = [trajectory(np.random.default_rng(seed), 30.0, jitter, 0.0)[:, :2] for seed in range(10)]
        return float(np.mean([np.linalg.norm(np.diff(track, axis=0), axis=1).sum() / 30 for track in tracks]))

    assert roughness(0.3) > 1.3 * roughness(0.0)


def test_a_track_that_does_not_wander_is_straight() -> None:
    def thickness(wander: float) -> float:
        tracks = [trajectory(np.random.default_rng(seed), 30.0, 0.0, 0.0, wander)[:, :2] for seed in range(10)]
        return float(np.mean([np.linalg.svd(track, compute_uv=False)[1] / np.sqrt(len(track)) for track in tracks]))

    assert thickness(0.0) < 1e-6 < thickness(0.1) < thickness(0.35)


def stripes() -> Samples:
    """Half black, half white, one pixel each."""
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[:, ::2] = 255
    return picture


def test_blur_adds_light_not_samples() -> None:
    """Averaging black and white halves the light, which is 188 of 255 in sRGB, not 128."""
    assert to_samples(np.array([0.5], np.float32)).tolist() == [188]
    every = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_samples(to_linear(every)), every)
    wide = Shake(shortest=30, longest=30, jitters=(0.0,), noise=0, scales=(1.0, 1.0), turn=0)
    means = [make_pair(stripes(), np.random.default_rng(seed), wide)[0].mean() for seed in range(8)]
    # A gain on the highlights only makes it brighter.
    assert min(means) > 170


def test_frames_of_a_video_are_averaged_as_they_are_stored() -> None:
    video = replace(STYLES["video"], shortest=30, longest=30, noise=0, scales=(1.0, 1.0), moving=0)
    for seed in range(4):
        blur, truth = make_pair(stripes(), np.random.default_rng(seed), video)
        assert abs(float(blur.mean()) - 127.5) < 3 and abs(float(truth.mean()) - 127.5) < 1


def test_what_moves_on_its_own_is_blurred_on_its_own() -> None:
    light = np.random.default_rng(0).random((96, 128, 3), dtype=np.float32)
    left = np.zeros((96, 128), np.float32)
    left[:, :64] = 1
    still, moving = np.zeros((8, 3)), np.zeros((21, 3))
    moving[:, 0] = np.linspace(-10, 10, 21)
    blurred = along(light, [still, moving], left)
    assert np.allclose(blurred[:, 76:], light[:, 76:], atol=1e-5)
    along_the_row = np.stack([np.roll(light, right, axis=1) for right in range(-10, 11)]).mean(axis=0)
    assert np.allclose(blurred[:, 12:52], along_the_row[:, 12:52], atol=1e-4)
    assert np.allclose(along(light, [still], None), light, atol=1e-5)
