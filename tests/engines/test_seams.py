"""Tiles that stand for the whole image: when they do, and how far they are from each other where they meet."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.photographs import deblur_photographs, restore_bytes
from engines.runtimes.base import Images
from engines.seams import STRIP, Seams
from engines.tiles import BYTES_PER_IMAGE_PIXEL, FIXED_BYTES, MEMORY, restored_tiles, tiling_for
from engines.tiling import Tiling
from mimo.spec import WHOLE_IMAGE, Shape, ShapeRange
from tests.fake_engine import FakeEngine


def whole(images: Images) -> Images:
    """As attention does it: something of every pixel of the image in every pixel."""
    result: Images = images * np.float32(0.5) + images.mean(axis=(2, 3), keepdims=True) * np.float32(0.5)
    return result


def ramp(height: int, width: int) -> Images:
    """Dark on the left, bright on the right: no two tiles side by side have the same mean."""
    row = np.linspace(0, 1, width, dtype=np.float32)
    return np.broadcast_to(row, (3, height, width)).copy()


def measured(height: int, width: int, tile: int, context: int | None = None) -> tuple[Seams, Tiling]:
    engine, image, seams = FakeEngine(whole, WHOLE_IMAGE), ramp(height, width), Seams()
    tiling = tiling_for(engine, height, width, tile=tile, context=context, approximate=True)
    seams.begin(tiling)
    for _ in restored_tiles(engine, tiling, lambda rows, columns: image[:, rows, columns], seams):
        pass
    return seams, tiling


def test_an_image_that_fits_is_not_cut() -> None:
    tiling = tiling_for(FakeEngine(whole, WHOLE_IMAGE), 700, 900, approximate=True)
    assert (len(tiling.tiles), tiling.exact) == (1, True)


@pytest.mark.parametrize(("height", "width"), [(3000, 4000), (9000, 12000), (14_142, 14_142)])
def test_what_does_not_fit_is_cut_within_the_memory_that_is_promised(height: int, width: int) -> None:
    engine = FakeEngine(whole, WHOLE_IMAGE)
    tiling = tiling_for(engine, height, width, approximate=True)
    assert not tiling.exact
    assert len(tiling.tiles) > 1
    assert 48 <= tiling.context <= 128
    pixels = tiling.outer[0] * tiling.outer[1]
    assert FIXED_BYTES + BYTES_PER_IMAGE_PIXEL * height * width + 2700 * pixels <= MEMORY or pixels <= 512**2


@pytest.mark.parametrize("side", [64, 256])
def test_an_engine_of_one_size_takes_photographs_of_every_size(side: int) -> None:
    shape = Shape(1, side, side)
    engine = FakeEngine(whole, WHOLE_IMAGE, ShapeRange(shape, shape, shape))
    tiling = tiling_for(engine, 300, 500, approximate=True)
    assert tiling.outer == (side, side)
    assert (tiling.exact, tiling.context) == (False, side // 8)


def test_what_stands_at_a_seam_is_the_difference_of_what_the_tiles_say_there() -> None:
    """Of a ramp, tiles side by side differ by half the difference of their means, all along the seam."""
    seams, tiling = measured(64, 256, tile=96, context=16)
    assert {tile.outer.top for tile in tiling.tiles} == {0}
    lefts = [tile.outer.left for tile in tiling.tiles]
    steps = [(b - a) / 255 / 2 for a, b in pairwise(lefts)]
    assert seams.values == len(steps) * 3 * 64 * STRIP
    assert seams.largest == pytest.approx(max(steps), rel=1e-3)
    assert seams.rms == pytest.approx(np.sqrt(np.mean(np.square(steps))), rel=1e-3)


def test_above_each_other_too() -> None:
    seams, tiling = measured(256, 256, tile=96, context=16)
    columns = len({tile.outer.left for tile in tiling.tiles})
    rows = len({tile.outer.top for tile in tiling.tiles})
    assert rows > 1
    # A ramp is the same in every row: what lies above each other agrees, and is counted.
    sideways, upwards = rows * (columns - 1), (rows - 1) * columns
    assert sideways * upwards > 0
    assert seams.values == 3 * STRIP * ((columns - 1) * 256 + (rows - 1) * 256)


def test_tiles_with_what_they_need_have_no_seams() -> None:
    engine, image, seams = FakeEngine(lambda images: images * 2, context=8), ramp(64, 256), Seams()
    tiling = tiling_for(engine, 64, 256, tile=96, context=4)
    assert not tiling.exact
    seams.begin(tiling)
    list(restored_tiles(engine, tiling, lambda rows, columns: image[:, rows, columns], seams))
    assert (seams.values > 0, seams.rms, seams.largest) == (True, 0.0, 0.0)


def test_without_context_nothing_can_be_measured_and_that_is_said() -> None:
    seams, _ = measured(64, 256, tile=96, context=0)
    assert np.isnan(seams.rms)
    assert "cannot be measured" in str(seams)


def test_a_run_says_which_of_its_results_are_approximations(tmp_path: Path) -> None:
    for name, width in (("large.png", 400), ("small.png", 80)):
        Image.fromarray((ramp(80, width).transpose(1, 2, 0) * 255).astype(np.uint8)).save(tmp_path / name)
    steps: dict[str, set[bool]] = {}
    report = deblur_photographs(
        FakeEngine(whole, WHOLE_IMAGE),
        [tmp_path / "large.png", tmp_path / "small.png"],
        tmp_path / "out",
        tile=128,
        progress=lambda step: steps.setdefault(step.source.name, set()).add(step.exact),
    )
    assert [path.name for path in report.done] == ["large.png", "small.png"]
    assert steps == {"large.png": {False}, "small.png": {True}}
    assert report.seams is not None
    assert (report.seams.photographs, report.seams.context) == (1, 16)
    assert "1 photograph in" in str(report.seams)
    assert "root mean square" in str(report.seams)


def test_one_photograph_alone_says_it_in_its_notes() -> None:
    stream = io.BytesIO()
    Image.fromarray((ramp(80, 400).transpose(1, 2, 0) * 255).astype(np.uint8)).save(stream, "PNG")
    engine = FakeEngine(whole, WHOLE_IMAGE)
    assert any("an approximation" in note for note in restore_bytes(engine, stream.getvalue(), tile=128).notes)
    assert not restore_bytes(engine, stream.getvalue()).notes
