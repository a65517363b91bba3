from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.loader import LoaderRates, measure_loader
from mimo.learning.recipe import Session
from tests.mimo.learning.training_data import recipe, write_pairs


def test_the_ratio_pairs_neighbouring_rounds() -> None:
    rates = LoaderRates(crops=40, loaded=(2.0, 8.0, 4.0), in_memory=(1.9, 7.6, 2.0), loading=0.1, kept=0.5)
    assert rates.ratio == pytest.approx(0.95)
    assert str(rates).startswith("training 10.00 crops/s with the loader, 20.00 on data in memory (95.0%)")
    assert "400 crops/s, 50% of the pictures" in str(rates)


def test_it_measures(tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "data", 3)
    rates = measure_loader(recipe(data), Session(device="cpu", workers=1, cache_gib=0), rounds=2, steps=1)
    assert (rates.crops, rates.kept, len(rates.loaded), len(rates.in_memory)) == (2, 0, 2, 2)
    assert rates.ratio > 0 and rates.loading >= 0
