from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.studies.shakes import Shaken, main, shaken_crops, study, table
from mimo.errors import DataError
from tests.mimo.learning.training_data import picture, write_pairs, write_picture


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("held")
    for number in range(3):
        write_picture(folder / f"{number}.png", picture(number, 150, 160))
    return folder


def test_longer_shakes_blur_more_and_none_blurs_nothing(photographs: Path) -> None:
    paths = sorted(photographs.iterdir())
    lost = []
    for length in (0.0, 4.0, 22.0):
        crops = list(shaken_crops(paths, length, 64))
        assert all(side.shape == (64, 64, 3) for pair in crops for side in pair)
        lost.append(float(np.mean([np.abs(blur.astype(float) - sharp).mean() for blur, sharp in crops])))
        again = shaken_crops(paths, length, 64)
        assert all(
            np.array_equal(a, b) for one, other in zip(crops, again, strict=True) for a, b in zip(one, other, strict=True)
        )
    assert lost[0] == 0 < lost[1] < lost[2]


def test_a_report_by_length_and_on_pairs(photographs: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", 2, height=80, width=90)
    main([tiny_checkpoint], photographs=photographs, pairs=pairs, length=[0.0, 8.0], crop=64, json=tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert [(row["pictures"], row["count"]) for row in report["results"]] == [("0 px", 3), ("8 px", 3), ("pairs", 2)]
    for row in report["results"]:
        assert row["gain"] == pytest.approx(row["restored"] - row["blurry"])
        assert row["lowest_gain"] <= row["gain"] + 1e-9
    assert report["results"] == json.loads(json.dumps(report["results"]))
    assert [one.restored for one in study([tiny_checkpoint], photographs, None, lengths=[8.0], side=64)] == [
        report["results"][1]["restored"]
    ]


def test_the_table_shows_gains_and_what_is_left_of_sharp_ones() -> None:
    rows = [Shaken("w.pkl", "a" * 64, "0 px", 3, 100.0, 48.25, -60.0), Shaken("w.pkl", "a" * 64, "8 px", 3, 25.0, 25.65, 0.1)]
    assert table(rows).splitlines()[2] == "| w.pkl (aaaaaaaa) | 48.2 dB left | +0.65 |"


def test_a_length_that_is_none_is_refused(photographs: Path) -> None:
    with pytest.raises(DataError, match="--length must be 0 or from 1"):
        main([], photographs=photographs, length=[float("nan")])
