"""The picture in the README."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.studies.before_after import FOLDER, GAP, rows
from tests.fake_engine import FakeEngine


def test_each_row_is_blurry_restored_and_sharp() -> None:
    draw = np.random.default_rng(0)
    crops = [tuple(draw.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)) for _ in range(2)]
    picture = rows(FakeEngine(lambda images: 1 - images, context=0), [(blur, sharp) for blur, sharp in crops])
    assert picture.shape == (2 * 32 + GAP, 3 * 32 + 2 * GAP, 3)
    blur, sharp = crops[1]
    np.testing.assert_array_equal(picture[32 + GAP :, :32], blur)
    np.testing.assert_array_equal(picture[32 + GAP :, 32 + GAP : 64 + GAP], 255 - blur)
    np.testing.assert_array_equal(picture[32 + GAP :, 64 + 2 * GAP :], sharp)
    assert (picture[32 : 32 + GAP] == 255).all()


def test_the_readme_shows_it() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    assert "docs/pictures/before-after.jpg" in readme
    assert (FOLDER / "before-after.jpg").is_file()
    assert len(list((FOLDER / "sharp").glob("*.jpg"))) == 3
