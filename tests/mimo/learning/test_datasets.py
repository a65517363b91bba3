from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mimo.errors import DataError, ImageError
from mimo.learning.datasets import (
    Pair,
    check_pairs,
    digest,
    open_pairs,
    read_pair,
    read_picture,
    training_pairs,
    validation_pairs,
)
from tests.mimo.learning.training_data import picture, write_dataset, write_pairs, write_picture


def test_pairs_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    pairs = open_pairs(write_pairs(tmp_path, 3))
    assert [pair.name for pair in pairs] == ["scene_000000.png", "scene_000001.png", "scene_000002.png"]
    assert {pair.scene for pair in pairs} == {"scene"}
    assert pairs[0].blur.parent.name == "blur" and pairs[0].sharp.parent.name == "sharp"


def test_what_is_no_picture_is_passed_over(tmp_path: Path) -> None:
    write_pairs(tmp_path, 1)
    (tmp_path / "blur" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "sharp" / ".scene_000009.png").write_bytes(b"x")
    assert len(open_pairs(tmp_path)) == 1


def test_the_scene_is_what_precedes_the_last_underscore() -> None:
    scenes = [Pair(name, Path(), Path()).scene for name in ("GOPR0372_07_00_000047.png", "plain.png", "_1.png")]
    assert scenes == ["GOPR0372_07_00", "plain", "_1"]


def test_every_missing_partner_is_named(tmp_path: Path) -> None:
    write_pairs(tmp_path, 3)
    (tmp_path / "blur" / "scene_000000.png").unlink()
    (tmp_path / "sharp" / "scene_000002.png").unlink()
    with pytest.raises(DataError, match=r"2 of 3 .*blur/scene_000002\.png, sharp/scene_000000\.png"):
        open_pairs(tmp_path)


def test_many_missing_partners_are_counted(tmp_path: Path) -> None:
    write_pairs(tmp_path, 9)
    for number in range(1, 9):
        (tmp_path / "blur" / f"scene_{number:06d}.png").unlink()
    with pytest.raises(DataError, match=r"8 of 9 .* and 3 more"):
        open_pairs(tmp_path)


def test_other_folders_say_what_was_expected_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "target").mkdir()
    with pytest.raises(DataError, match=r"expected a folder with blur/ and sharp/; found input/, target/"):
        open_pairs(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        open_pairs(tmp_path / "nowhere")
    for side in ("blur", "sharp"):
        (tmp_path / side).mkdir()
    with pytest.raises(DataError, match="hold no pictures"):
        open_pairs(tmp_path)


def test_empty_files_are_named_at_once(tmp_path: Path) -> None:
    write_pairs(tmp_path, 2)
    (tmp_path / "sharp" / "scene_000001.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"sharp/scene_000001\.png is empty"):
        open_pairs(tmp_path)


def test_unequal_sizes_and_small_pictures_are_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path, 2)
    write_picture(tmp_path / "blur" / "scene_000000.png", picture(0, 40, 64))
    odd, even = open_pairs(tmp_path)
    with pytest.raises(DataError, match=r"blur/scene_000000\.png has 64x40 .*sharp/scene_000000\.png 64x48"):
        read_pair(odd)
    with pytest.raises(DataError, match="64x48 pixels, too few for patches of 64"):
        read_pair(even, smallest=64)


def test_everything_broken_is_found_in_one_go(tmp_path: Path) -> None:
    write_pairs(tmp_path, 4)
    cut = tmp_path / "sharp" / "scene_000001.png"
    cut.write_bytes(cut.read_bytes()[:-300])
    (tmp_path / "blur" / "scene_000003.png").write_text("no picture")
    pairs = open_pairs(tmp_path)
    seen: list[tuple[int, int]] = []
    with pytest.raises(DataError, match=r"(?s)2 of 4 pairs.*sharp/scene_000001\.png.*blur/scene_000003\.png"):
        check_pairs(pairs, lambda place: read_pair(pairs[place]), workers=2, watch=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(ImageError):
        read_picture(cut)


def test_a_defect_while_checking_is_not_swallowed(tmp_path: Path) -> None:
    pairs = open_pairs(write_pairs(tmp_path, 2))

    def read(place: int) -> None:
        raise ZeroDivisionError(place)

    with pytest.raises(ZeroDivisionError):
        check_pairs(pairs, read)


def test_grey_and_sixteen_bit_pictures_become_rgb_of_eight(tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(picture(0)[..., 0]).save(tmp_path / "grey.png")
    assert read_picture(tmp_path / "grey.png").shape == (48, 64, 3)
    deep = np.array([[0, 257, 128, 129, 65535, 65406]] * 16, np.uint16).repeat(3, axis=1)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_picture(tmp_path / "deep.png")[0, ::3, 0].tolist() == [0, 1, 0, 1, 255, 254]


def test_prepared_folders_are_read_by_split_and_test_is_never_validation(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, train=3, val=2)
    assert (len(training_pairs(data)), len(validation_pairs(data))) == (3, 2)
    assert training_pairs(data / "train") == training_pairs(data)
    (data / "val").rename(data / "test")
    assert validation_pairs(data) == ()


def test_the_digest_sees_what_changed(tmp_path: Path) -> None:
    pairs = open_pairs(write_pairs(tmp_path, 3))
    before = digest(pairs[:2], pairs[2:])
    assert before == digest(pairs[:2], pairs[2:])
    assert before != digest(pairs[:1], pairs[1:])
    pairs[0].blur.write_bytes(pairs[0].blur.read_bytes() + b"x")
    assert before != digest(pairs[:2], pairs[2:])
