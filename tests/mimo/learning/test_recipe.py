from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from cli import app
from mimo.edge import commands_of
from mimo.errors import TrainingError
from mimo.learning.recipe import Recipe, Session, flag_of, parse_augment
from mimo.networks.registry import named

AUTHORS = Recipe(named("mimo-unet"), (Path("GOPRO"),))


def test_every_field_is_an_option_of_the_command_and_none_is_taken_and_ignored() -> None:
    """``spec`` alone comes from other options: --model, --width and --blocks."""
    command = commands_of(typer.main.get_command(app))["train"]
    flags = {flag for parameter in command.params for flag in parameter.opts}
    wanted = {one.name for kind in (Recipe, Session) for one in fields(kind)} - {"spec"}
    assert {flag_of(name) for name in wanted} <= flags
    own = {"--out", "--model", "--width", "--blocks", "--resume", "--profile-loader"}
    assert flags - {flag_of(name) for name in wanted} - {"--help", "-h"} == own


def test_the_defaults_are_the_authors() -> None:
    assert (AUTHORS.patch_size, AUTHORS.batch_size, AUTHORS.lr, AUTHORS.epochs) == (256, 4, 1e-4, 3000)
    assert AUTHORS.augment == ("flips",)
    assert (AUTHORS.amp, AUTHORS.ema, AUTHORS.grad_clip, AUTHORS.warmup, AUTHORS.schedule) == ("off", 0, 0, 0, "step")
    rates = [AUTHORS.learning_rate(0, steps=1, epoch=epoch) for epoch in (0, 499, 500, 1000, 2999)]
    assert rates == [1e-4, 1e-4, 5e-5, 2.5e-5, 1e-4 / 32]


def test_epochs_become_steps_and_iterations_take_their_place() -> None:
    assert AUTHORS.steps(2103, 1) == math.ceil(3000 * 2103 / 4)
    assert AUTHORS.steps(2103, 2) == math.ceil(3000 * 2103 / 8)
    assert Recipe(named("mimo-unet"), (Path("x"),), iterations=7).steps(2103, 2) == 7


@given(steps=st.integers(1, 10_000), warmup=st.integers(0, 1000))
def test_cosine_rises_falls_and_never_leaves_its_range(steps: int, warmup: int) -> None:
    recipe = Recipe(named("mimo-unet"), (Path("x"),), schedule="cosine", warmup=warmup, lr=1.0)
    rates = [
        recipe.learning_rate(step, steps=steps, epoch=0) for step in {0, warmup // 2, warmup, steps // 2, steps - 1, steps}
    ]
    assert all(0 <= rate <= 1 for rate in rates)
    if warmup < steps:
        assert recipe.learning_rate(warmup, steps=steps, epoch=0) == pytest.approx(1.0)
        assert recipe.learning_rate(steps, steps=steps, epoch=0) == pytest.approx(0.0, abs=1e-12)
    if warmup:
        assert recipe.learning_rate(0, steps=steps + warmup, epoch=0) == pytest.approx(1 / (warmup + 1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"data": ()}, {"epochs": 0}, {"iterations": 0}, {"batch_size": 0}, {"patch_size": 30}, {"patch_size": 8}, {"lr": 0.0},
        {"lr": math.nan}, {"schedule": "linear"}, {"halve_every": 0}, {"warmup": -1}, {"amp": "fp8"}, {"ema": 1.0},
        {"grad_clip": -1.0}, {"augment": ("mixup",)}, {"seed": -1}, {"val_every": 0}, {"val_crop": 4}, {"save_every": 0},
    ],
)  # fmt: skip
def test_what_cannot_be_names_the_option(wrong: dict[str, Any]) -> None:
    option = next(iter(wrong)).replace("_", "-")
    with pytest.raises(TrainingError, match=f"--{option} "):
        replace(AUTHORS, **wrong)


@pytest.mark.parametrize(
    "wrong", [{"device": "tpu"}, {"workers": -1}, {"cache_gib": -1.0}, {"max_minutes": 0.0}, {"log_every": 0}]
)
def test_so_does_a_session(wrong: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match=f"--{next(iter(wrong)).replace('_', '-')} "):
        Session(**wrong)


def test_json_and_back() -> None:
    full = Recipe(
        named("mimo-unet-small"),
        (Path("a"), Path("b")),
        validation=Path("v"),
        init=Path("w.safetensors"),
        augment=("rot90", "flips"),
    )
    for recipe in (AUTHORS, full):
        assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    with pytest.raises(TrainingError, match="another version"):
        Recipe.from_json(AUTHORS.to_json() | {"novelty": 1})
    with pytest.raises(TrainingError, match="another version"):
        Recipe.from_json({"spec": {}})


def test_augmentations_are_read_from_one_word() -> None:
    assert parse_augment("flips, rot90,rgb-shuffle") == ("flips", "rot90", "rgb-shuffle")
    assert parse_augment("none") == parse_augment("") == ()
    with pytest.raises(TrainingError, match=r"--augment must be .* got mixup"):
        parse_augment("flips,mixup")
