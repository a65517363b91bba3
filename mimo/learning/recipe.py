"""What a run is asked to do, in two frozen values: what its weights depend on, and what they do not. No torch here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from mimo.errors import MimoError, TrainingError
from mimo.learning.styles import LENGTHS, LONGEST, SHORTEST, STYLES, Shake, Style
from mimo.networks.registry import spec_from_json
from mimo.spec import SMALLEST_SIDE, ModelSpec

Schedule = Literal["step", "cosine"]
Amp = Literal["off", "bf16", "fp16"]
Optimizer = Literal["adam", "adamw"]
Device = Literal["auto", "cpu", "cuda"]
Augmentation = Literal["flips", "rot90", "rgb-shuffle"]
"""``flips``: left to right, every second sample (the authors' only one); ``rot90``: by 0, 90, 180 or 270 degrees, with
flips all eight positions of a square; ``rgb-shuffle``: the three channels in any order."""


@dataclass(frozen=True)
class Option:
    """What the command line and the checks know of a field of :class:`Recipe` or :class:`Session`, beside type and default."""

    help: str
    wanted: str = ""
    """What a value must be, as the end of a sentence; empty where any value of the type will do."""
    right: Callable[[Any], bool] = lambda value: True
    """Whether a value is."""
    flag: str = ""
    """Of the command line, without the dashes; by default the field's name."""


def option(
    default: Any, help: str, wanted: str = "", right: Callable[[Any], bool] = lambda value: True, *, flag: str = ""
) -> Any:
    """A field of that default; the other arguments as in :class:`Option`."""
    return field(default=default, metadata={"option": Option(help, wanted, right, flag)})


def options_of(kind: type[Recipe] | type[Session]) -> dict[str, Option]:
    """By the names of the fields, in their order."""
    return {one.name: one.metadata["option"] for one in fields(kind) if "option" in one.metadata}


def flag_of(name: str) -> str:
    """``--val`` for ``validation``: how the command line spells a field."""
    known = options_of(Recipe) | options_of(Session)
    return "--" + ((known[name].flag if name in known else "") or name).replace("_", "-")


def _finite(least: float, most: float = math.inf) -> Callable[[float | None], bool]:
    return lambda value: value is None or (least <= value <= most and value < math.inf)


def _one_of(choices: Any) -> dict[str, Any]:
    names = get_args(choices)
    return {"wanted": f"{', '.join(names[:-1])} or {names[-1]}", "right": names.__contains__}


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the authors' (spec of MIMO-UNet, 3000 epochs on GoPro).

    Raises :class:`TrainingError` that names the option when a value is not what it must be. A *step* is one update of the
    weights; a *sample* one crop; an *epoch* as many samples as there are training pairs and photographs.
    """

    spec: ModelSpec
    data: tuple[Path, ...] = option(
        (),
        "A prepared dataset or a folder with blur/ and sharp/; given several times, each counts; given twice, it counts twice.",
    )
    photographs: tuple[Path, ...] = option(
        (),
        "A folder of sharp photographs, shaken while the run learns: no crop is seen twice. May be given several times.",
        flag="synthesize-from",
    )
    style: Style = option("handheld", "Blur model for sharp photographs, as in mimo synthesize.", **_one_of(Style))
    shortest: float | None = option(
        None, "The shortest shake, in pixels; by default the style's.", LENGTHS, _finite(SHORTEST, LONGEST)
    )
    longest: float | None = option(
        None, "The longest shake, in pixels; by default the style's.", LENGTHS, _finite(SHORTEST, LONGEST)
    )
    sharp_part: float = option(
        0.125,
        "The part of the shaken samples that stays sharp: what is sharp shall be left alone.",
        "from 0 to 1",
        _finite(0, 1),
    )
    real_part: float = option(
        0.125,
        "The part of the samples that comes from --data, with --synthesize-from.",
        "above 0 and below 1",
        lambda value: 0 < value < 1,
    )
    validation: Path | None = option(None, "Validation pairs; by default val/ of the data.", flag="val")
    epochs: int = option(3000, "Passes over the training pictures.", "at least 1", _finite(1))
    iterations: int | None = option(None, "Updates of the weights; takes the place of --epochs.", "at least 1", _finite(1))
    batch_size: int = option(4, "Crops per update, in each process.", "at least 1", _finite(1))
    patch_size: int = option(
        256,
        "Side of a crop in pixels, a multiple of 4.",
        "a multiple of 4 and at least 16",
        lambda side: side >= SMALLEST_SIDE and side % 4 == 0,
    )
    optimizer: Optimizer = option("adam", "adam, as the authors; adamw with a decay of the weights.", **_one_of(Optimizer))
    weight_decay: float = option(
        0.01, "With adamw: what a weight loses of itself in a step, times the learning rate.", "at least 0", _finite(0)
    )
    lr: float = option(1e-4, "Learning rate.", "above 0", lambda rate: 0 < rate < math.inf)
    schedule: Schedule = option("step", "step: halved now and then; cosine: down to 0 at the end.", **_one_of(Schedule))
    halve_every: int = option(500, "Epochs, with --schedule step.", "at least 1", _finite(1))
    warmup: int = option(0, "Updates over which the learning rate rises.", "at least 0", _finite(0))
    amp: Amp = option("off", "Mixed precision; bf16 needs no more care than off.", **_one_of(Amp))
    ema: float = option(
        0.0,
        "Decay per update of a running mean of the weights, which is then validated and exported, such as 0.999; 0 is off.",
        "at least 0 and below 1",
        lambda decay: 0 <= decay < 1,
    )
    grad_clip: float = option(0.0, "Largest norm of the gradient; 0 is off.", "at least 0", _finite(0))
    augment: tuple[Augmentation, ...] = option(
        ("flips",),
        "Any of flips,rot90,rgb-shuffle, or none. The authors' recipe is flips.",
        "of flips, rot90 and rgb-shuffle",
        lambda names: set(names) <= set(get_args(Augmentation)),
    )
    init: Path | None = option(None, "A checkpoint of the same network to start from, or the name of bundled weights.")
    seed: int = option(0, "Random seed.", "at least 0", _finite(0))
    val_every: int = option(2000, "Updates between validations.", "at least 1", _finite(1))
    val_crop: int = option(
        0,
        "Validate on the middle of each picture, so many pixels a side; 0 is all of it.",
        "0 or at least 16",
        lambda side: side == 0 or side >= SMALLEST_SIDE,
    )
    save_every: int = option(
        500, "Updates between checkpoints; one is written after each validation, too.", "at least 1", _finite(1)
    )
    compile: bool = option(False, "Compile the network with torch.compile.")

    def __post_init__(self) -> None:
        _check(self)
        if not (self.data or self.photographs):
            raise TrainingError("there is nothing to learn from: name --data or --synthesize-from.")
        if self.patch_size % self.spec.size_multiple:
            raise TrainingError(
                f"--patch-size must be a multiple of {self.spec.size_multiple} for {self.spec.name}, got {self.patch_size}."
            )
        if self.shake.longest < self.shake.shortest:
            raise TrainingError(
                f"--longest must be above the shortest shake, {self.shake.shortest:g} pixels, got {self.shake.longest:g}."
            )

    @property
    def shake(self) -> Shake:
        """What is drawn for photographs."""
        return STYLES[self.style].between(self.shortest, self.longest)

    def steps(self, pairs: int, processes: int) -> int:
        """How many steps the whole run has."""
        if self.iterations is not None:
            return self.iterations
        return math.ceil(self.epochs * pairs / (self.batch_size * processes))

    def learning_rate(self, step: int, *, steps: int, epoch: int) -> float:
        """The rate for the update number ``step`` (from 0) of ``steps``, in epoch ``epoch`` (from 0)."""
        rate = self.lr * min(1.0, (step + 1) / (self.warmup + 1))
        if self.schedule == "step":
            return rate * 0.5 ** (epoch // self.halve_every)
        after = max(0, step - self.warmup) / max(1, steps - self.warmup)
        return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, after)))

    def anywhere(self) -> Recipe:
        """The same recipe with absolute paths, so that a run can be continued from another folder."""
        validation, init = (path and path.absolute() for path in (self.validation, self.init))
        data, photographs = (tuple(path.absolute() for path in folders) for folders in (self.data, self.photographs))
        return replace(self, data=data, photographs=photographs, validation=validation, init=init)

    def to_json(self) -> dict[str, Any]:
        """Numbers, strings, lists and dictionaries only."""
        values = asdict(self)
        for name in ("validation", "init"):
            values[name] = None if values[name] is None else str(values[name])
        folders = {name: [str(path) for path in getattr(self, name)] for name in ("data", "photographs")}
        return values | folders | {"augment": list(self.augment)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Recipe:
        """The inverse of :meth:`to_json`. Raises :class:`TrainingError` for what is no recipe of this version."""
        names = {field.name for field in fields(cls)}
        try:
            # Also refuses what is no number: JSON has none.
            json.dumps(values, allow_nan=False)
            if unknown := values.keys() - names:
                raise KeyError(*sorted(unknown))
            paths = {name: None if values[name] is None else Path(values[name]) for name in ("validation", "init")}
            folders = {name: tuple(Path(path) for path in values.get(name, ())) for name in ("data", "photographs")}
            rest = {"spec": spec_from_json(values["spec"]), **folders, "augment": tuple(values["augment"])}
            return cls(**{**values, **paths, **rest})
        except (KeyError, TypeError, ValueError, AttributeError, MimoError, RecursionError) as error:
            raise TrainingError(
                f"this run was made by another version of mimo, or its recipe is damaged ({error!r:.120}): continue with that, "
                "or begin a new run with --init."
            ) from error


@dataclass(frozen=True)
class Session:
    """How to run, as far as the weights do not depend on it; may change when a run is continued. Raises as :class:`Recipe`."""

    device: Device = option("auto", "Device to train on.", **_one_of(Device))
    workers: int = option(4, "Threads that load pictures; 0 loads between the updates.", "at least 0", _finite(0))
    cache_gib: float = option(
        4.0, "GiB of decoded pictures kept in memory, over all processes of this machine.", "at least 0", _finite(0)
    )
    max_minutes: float | None = option(
        None,
        "Validate, save and stop after so long; --resume continues.",
        "above 0",
        lambda minutes: minutes is None or 0 < minutes < math.inf,
    )
    tensorboard: bool = option(True, "Write TensorBoard files, where it is installed.")
    log_every: int = option(50, "Updates between rows of log.jsonl.", "at least 1", _finite(1))

    def __post_init__(self) -> None:
        _check(self)


def parse_augment(text: str) -> tuple[Augmentation, ...]:
    """``"flips,rot90"`` as :attr:`Recipe.augment`; ``"none"`` is none. Raises :class:`TrainingError`."""
    known: dict[str, Augmentation] = {name: name for name in get_args(Augmentation)}
    names = [name.strip() for name in text.split(",") if name.strip() not in ("", "none")]
    if unknown := [name for name in names if name not in known]:
        raise TrainingError(f"--augment must be of {', '.join(known)}, with commas between, or none, got {unknown[0]:.40}.")
    return tuple(known[name] for name in names)


def _check(asked: Recipe | Session) -> None:
    for name, known in options_of(type(asked)).items():
        value = getattr(asked, name)
        if not known.right(value):
            raise TrainingError(f"{flag_of(name)} must be {known.wanted}, got {value}.")
