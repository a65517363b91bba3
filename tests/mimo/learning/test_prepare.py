"""The public datasets, in miniature."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import mimo
from mimo.errors import DataError
from mimo.learning.datasets import open_pairs
from mimo.learning.prepare import prepare_gopro, prepare_hide, prepare_realblur
from tests.mimo.learning.training_data import picture, write_picture

PHOTOGRAPHS = Path(mimo.__file__).parent / "photographs"
TRAIN_SCENES = ("GOPR0372_07_00", "GOPR0372_07_01", "GOPR0374_11_00")


@pytest.fixture
def gopro(tmp_path: Path) -> Path:
    """GOPRO_Large as it is published, two frames a scene; real photographs in the test split."""
    src = tmp_path / "GOPRO_Large"
    for place, scene in enumerate(TRAIN_SCENES):
        for frame in (47, 48):
            for kind, side in enumerate(("blur", "blur_gamma", "sharp")):
                write_picture(src / "train" / scene / side / f"{frame:06d}.png", picture(100 * place + 10 * kind + frame))
    for pair in open_pairs(PHOTOGRAPHS):
        name = pair.name.removeprefix(f"{pair.scene}_")
        for side, path in (("blur", pair.blur), ("blur_gamma", pair.blur), ("sharp", pair.sharp)):
            (src / "test" / pair.scene / side).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, src / "test" / pair.scene / side / name)
    return src


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.png")}


def test_gopro_becomes_train_val_and_test_without_moving_anything(gopro: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in gopro.rglob("*.png")}
    seen: list[int] = []
    done = prepare_gopro(gopro, tmp_path / "dst", watch=lambda number, of: seen.append(number))
    assert dict(done.counts) == {"train": 4, "val": 2, "test": 3}
    assert dict(done.placed) == {"linked": 18}
    assert seen == list(range(1, 19))
    assert files(tmp_path / "dst" / "val") == {
        f"{side}/GOPR0372_07_01_{frame}.png" for side in ("blur", "sharp") for frame in ("000047", "000048")
    }
    linked = tmp_path / "dst" / "train" / "blur" / "GOPR0372_07_00_000047.png"
    assert linked.samefile(gopro / "train" / "GOPR0372_07_00" / "blur" / "000047.png")
    assert {path: path.read_bytes() for path in gopro.rglob("*.png")} == before
    assert not done.complete
    assert "train 6 of 2103 pairs (2 of them set aside in val), test 3 of 1111 pairs" in str(done)


def test_gamma_takes_the_other_blur_and_does_not_mix(gopro: Path, tmp_path: Path) -> None:
    prepare_gopro(gopro, tmp_path / "dst", gamma=True)
    linked = tmp_path / "dst" / "train" / "blur" / "GOPR0372_07_00_000047.png"
    assert linked.samefile(gopro / "train" / "GOPR0372_07_00" / "blur_gamma" / "000047.png")
    with pytest.raises(DataError, match="another folder"):
        prepare_gopro(gopro, tmp_path / "dst")


@pytest.mark.parametrize(("scenes", "val"), [(0, 0), (1, 2), (2, 4)])
def test_whole_scenes_are_set_aside(gopro: Path, tmp_path: Path, scenes: int, val: int) -> None:
    done = prepare_gopro(gopro, tmp_path / "dst", validation_scenes=scenes)
    assert (done.counts["train"], done.counts.get("val", 0)) == (6 - val, val)
    if val:
        train, aside = ({pair.scene for pair in open_pairs(tmp_path / "dst" / split)} for split in ("train", "val"))
        assert not train & aside


def test_one_scene_must_stay(gopro: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 of 3 training scenes"):
        prepare_gopro(gopro, tmp_path / "dst", validation_scenes=3)
    assert not (tmp_path / "dst").exists()


def test_an_interrupted_preparation_is_finished(gopro: Path, tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def stop(number: int, of: int) -> None:
        if number == 7:
            raise Interrupted

    with pytest.raises(Interrupted):
        prepare_gopro(gopro, tmp_path / "dst", watch=stop)
    assert dict(prepare_gopro(gopro, tmp_path / "dst").placed) == {"kept": 7, "linked": 11}
    assert dict(prepare_gopro(gopro, tmp_path / "dst").placed) == {"kept": 18}
    assert json.loads((tmp_path / "dst" / "prepared.json").read_text())["pairs"] == {"train": 4, "val": 2, "test": 3}


def test_where_links_are_impossible_files_are_copied(gopro: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert dict(prepare_gopro(gopro, tmp_path / "dst").placed) == {"copied": 18}
    copied = tmp_path / "dst" / "train" / "blur" / "GOPR0372_07_00_000047.png"
    source = gopro / "train" / "GOPR0372_07_00" / "blur" / "000047.png"
    assert copied.read_bytes() == source.read_bytes() and not copied.samefile(source)


def test_foreign_pictures_in_the_way_are_named(gopro: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "dst" / "train" / "blur" / "holiday.png", picture(1))
    with pytest.raises(DataError, match=r"not of GOPRO_Large.*holiday\.png"):
        prepare_gopro(gopro, tmp_path / "dst")


def test_another_layout_says_what_was_expected_and_found(gopro: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected GOPRO_Large with train/ and test/; found GOPRO_Large/"):
        prepare_gopro(gopro.parent, tmp_path / "dst")
    shutil.rmtree(gopro / "train" / TRAIN_SCENES[1] / "sharp")
    with pytest.raises(DataError, match=r"GOPR0372_07_01: expected a folder with blur/ and sharp/; found blur/, blur_gamma/"):
        prepare_gopro(gopro, tmp_path / "dst")


def test_a_frame_without_truth_is_named(gopro: Path, tmp_path: Path) -> None:
    (gopro / "train" / TRAIN_SCENES[0] / "sharp" / "000048.png").unlink()
    with pytest.raises(DataError, match=r"no partner.*blur/000048\.png"):
        prepare_gopro(gopro, tmp_path / "dst")
    assert not (tmp_path / "dst").exists()


@pytest.fixture
def realblur(tmp_path: Path) -> Path:
    src = tmp_path / "RealBlur"
    for subset, folder in (("J", "RealBlur-J_ECC_IMCORR_centroid_itensity_ref"), ("R", "RealBlur-R_BM3D_ECC_IMCORR")):
        for split, scenes in (("train", (1, 2)), ("test", (3,))):
            lines = []
            for scene in scenes:
                for number in (1, 12):
                    paths = [f"{folder}/scene{scene:03d}/{kind}/{kind}_{number}.png" for kind in ("gt", "blur")]
                    for path in paths:
                        write_picture(src / path, picture(sum(path.encode())))
                    lines.append(" ".join(paths))
            (src / f"RealBlur_{subset}_{split}_list.txt").write_text("\n".join(lines) + "\n\n")
    return src


@pytest.mark.parametrize("subset", ["J", "R"])
def test_realblur_goes_by_its_own_lists(realblur: Path, tmp_path: Path, subset: Any) -> None:
    done = prepare_realblur(realblur, tmp_path / "dst", subset=subset)
    assert dict(done.counts) == {"train": 2, "val": 2, "test": 2}
    assert files(tmp_path / "dst" / "test") == {
        f"{side}/scene003_{number}.png" for side in ("blur", "sharp") for number in ("000001", "000012")
    }
    source = next(realblur.glob(f"RealBlur-{subset}*/scene003/gt/gt_12.png"))
    assert (tmp_path / "dst" / "test" / "sharp" / "scene003_000012.png").samefile(source)
    assert "of 3758 pairs" in str(done)


def test_realblur_without_its_lists_or_pictures(realblur: Path, tmp_path: Path) -> None:
    next(realblur.glob("RealBlur-J*/scene001/gt/gt_1.png")).unlink()
    with pytest.raises(DataError, match=r"names 1 pictures that are not there.*gt_1\.png"):
        prepare_realblur(realblur, tmp_path / "dst")
    (realblur / "RealBlur_R_test_list.txt").unlink()
    with pytest.raises(DataError, match=r"RealBlur_R_test_list\.txt is expected"):
        prepare_realblur(realblur, tmp_path / "dst", subset="R")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("a/blur/blur_1.png a/gt/gt_1.png", "line 1: expected"),
        ("a/gt/gt_1.png", "line 1: expected"),
        ("../gt/gt_1.png ../blur/blur_1.png", "leaves the dataset's folder"),
        ("/etc/gt/gt_1.png /etc/blur/blur_1.png", "leaves the dataset's folder"),
    ],
)
def test_realblur_lists_are_not_trusted(realblur: Path, tmp_path: Path, line: str, complaint: str) -> None:
    (realblur / "RealBlur_J_train_list.txt").write_text(line)
    with pytest.raises(DataError, match=complaint):
        prepare_realblur(realblur, tmp_path / "dst")


def test_realblur_that_lists_a_pair_twice(realblur: Path, tmp_path: Path) -> None:
    path = realblur / "RealBlur_J_test_list.txt"
    path.write_text(path.read_text() * 2)
    with pytest.raises(DataError, match="2 pairs of test would be called scene003_000001"):
        prepare_realblur(realblur, tmp_path / "dst")


def test_hide_in_both_layouts(tmp_path: Path) -> None:
    src = tmp_path / "HIDE_dataset"
    for part, name in (("test-close-ups", "1fromGOPR1096.png"), ("test-long-shot", "2fromGOPR1096.png")):
        write_picture(src / "test" / part / name, picture(1))
        write_picture(src / "GT" / name, picture(2))
    write_picture(src / "GT" / "of-the-training-set.png", picture(3))
    done = prepare_hide(src, tmp_path / "dst")
    assert dict(done.counts) == {"test": 2} and "test 2 of 2025 pairs" in str(done)
    again = prepare_hide(tmp_path / "dst", tmp_path / "second")
    assert files(tmp_path / "dst") == files(tmp_path / "second") and again.counts == done.counts

    (src / "GT" / "2fromGOPR1096.png").unlink()
    with pytest.raises(DataError, match=r"test-long-shot/2fromGOPR1096\.png"):
        prepare_hide(src, tmp_path / "third")
    with pytest.raises(DataError, match=r"expected HIDE_dataset with test/ and GT/; found"):
        prepare_hide(tmp_path, tmp_path / "fourth")
