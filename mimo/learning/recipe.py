"""What a run is asked to do, in two frozen values: what its weights depend on, and what they do not. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from mimo.errors import TrainingError
from mimo.learning.styles import STYLES, Shake, Style
from mimo.networks.registry import spec_from_json
from mimo.spec import SMALLEST_SIDE, ModelSpec

Schedule = Literal["step", "cosine"]
Amp = Literal["off", "bf16", "fp16"]
Optimizer = Literal["adam", "adamw"]
Device = Literal["auto", "cpu", "cuda"]
Augmentation = Literal["flips", "rot90", "rgb-shuffle"]
"""``flips``: left to right, every second sample (the authors' only one); ``rot90``: by 0, 90, 180 or 270 degrees, with
flips all eight positions of a square; ``rgb-shuffle``: the three channels in any order."""


# Option, whether its value can be, and what can be.
_Checks = tuple[tuple[str, bool, str], ...]


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the authors' (spec of MIMO-UNet, 3000 epochs on GoPro).

    Raises :class:`TrainingError` that names the option when a value cannot be. A *step* is one update of the weights; a
    *sample* one crop; an *epoch* as many samples as there are training pairs.
    """

    spec: ModelSpec
    data: tuple[Path, ...] = ()
    """Prepared datasets (with ``train/`` and perhaps ``val/``) or folders of pairs; a folder given twice counts twice."""
    photographs: tuple[Path, ...] = ()
    """Folders of sharp photographs, shaken while the run learns: no crop is seen twice."""
    style: Style = "handheld"
    """How photographs are shaken: see :data:`mimo.learning.shake.STYLES`."""
    shortest: float | None = None
    """Of a drawn shake, in pixels; by default the style's."""
    longest: float | None = None
    """Of a drawn shake, in pixels; by default the style's."""
    sharp_part: float = 0.125
    """Of the shaken photographs: left sharp, so that a network learns to leave alone what is."""
    real_part: float = 0.125
    """Of the samples: from :attr:`data` where there are :attr:`photographs` too."""
    validation: Path | None = None
    """A folder of pairs; by default ``val/`` of each dataset that has one."""
    epochs: int = 3000
    iterations: int | None = None
    """Steps; takes the place of :attr:`epochs`."""
    batch_size: int = 4
    """Samples per step and process."""
    patch_size: int = 256
    lr: float = 1e-4
    optimizer: Optimizer = "adam"
    weight_decay: float = 0.01
    """With ``adamw``: how much of itself a weight loses in each step, times the learning rate."""
    schedule: Schedule = "step"
    """``step``: halved every :attr:`halve_every` epochs; ``cosine``: down to 0 at the last step."""
    halve_every: int = 500
    warmup: int = 0
    """Steps over which the learning rate rises from 0."""
    amp: Amp = "off"
    ema: float = 0.0
    """Decay per step of a running mean of the weights, such as 0.999, which is then what is validated and exported."""
    grad_clip: float = 0.0
    """The largest norm of the gradient; 0 leaves it alone."""
    augment: tuple[Augmentation, ...] = ("flips",)
    init: Path | None = None
    """A checkpoint to start from, of the same network."""
    seed: int = 0
    val_every: int = 2000
    """Steps between validations."""
    val_crop: int = 0
    """Validate on the middle of each picture, at most this many pixels a side; 0 takes whole pictures."""
    save_every: int = 500
    """Steps between checkpoints; one is written after each validation, too."""
    compile: bool = False
    """Compile the network with torch.compile."""

    def __post_init__(self) -> None:
        checks: _Checks = (
            ("data", bool(self.data or self.photographs), "name at least one folder, or one with --synthesize-from"),
            ("style", self.style in get_args(Style), "shake, handheld or video"),
            ("sharp-part", 0 <= self.sharp_part <= 1, "from 0 to 1"),
            ("real-part", 0 < self.real_part < 1, "above 0 and below 1"),
            ("optimizer", self.optimizer in get_args(Optimizer), "adam or adamw"),
            ("weight-decay", 0 <= self.weight_decay < math.inf, "0 or above"),
            ("epochs", self.epochs >= 1, "at least 1"),
            ("iterations", self.iterations is None or self.iterations >= 1, "at least 1"),
            ("batch-size", self.batch_size >= 1, "at least 1"),
            ("patch-size", self.patch_size >= SMALLEST_SIDE and self.patch_size % 4 == 0, "a multiple of 4, at least 16"),
            ("lr", 0 < self.lr < math.inf, "above 0"),
            ("schedule", self.schedule in get_args(Schedule), "step or cosine"),
            ("halve-every", self.halve_every >= 1, "at least 1"),
            ("warmup", self.warmup >= 0, "0 or more steps"),
            ("amp", self.amp in get_args(Amp), "off, bf16 or fp16"),
            ("ema", 0 <= self.ema < 1, "0 (off) or below 1, such as 0.999"),
            ("grad-clip", 0 <= self.grad_clip < math.inf, "0 (off) or above"),
            ("augment", set(self.augment) <= set(get_args(Augmentation)), "of flips, rot90 and rgb-shuffle"),
            ("seed", self.seed >= 0, "0 or more"),
            ("val-every", self.val_every >= 1, "at least 1"),
            ("val-crop", self.val_crop == 0 or self.val_crop >= SMALLEST_SIDE, "0 (whole pictures) or at least 16"),
            ("save-every", self.save_every >= 1, "at least 1"),
        )
        _need(self, checks)

    @property
    def shake(self) -> Shake:
        """What is drawn for photographs. Raises :class:`TrainingError` for lengths that cannot be."""
        style = STYLES[self.style]
        return replace(
            style,
            shortest=style.shortest if self.shortest is None else self.shortest,
            longest=style.longest if self.longest is None else self.longest,
        )

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
            if unknown := values.keys() - names:
                raise KeyError(*sorted(unknown))
            paths = {name: None if values[name] is None else Path(values[name]) for name in ("validation", "init")}
            folders = {name: tuple(Path(path) for path in values.get(name, ())) for name in ("data", "photographs")}
            rest = {"spec": spec_from_json(values["spec"]), **folders, "augment": tuple(values["augment"])}
            return cls(**{**values, **paths, **rest})
        except (KeyError, TypeError, AttributeError) as error:
            raise TrainingError(
                f"this run was made by another version of mimo ({error!r}): continue it with that one."
            ) from error


@dataclass(frozen=True)
class Session:
    """How to run, as far as the weights do not depend on it; may change when a run is continued. Raises as :class:`Recipe`."""

    device: Device = "auto"
    workers: int = 4
    """Threads that load; 0 loads between the steps."""
    cache_gib: float = 4.0
    """Decoded pictures kept in memory, over all processes of this machine together."""
    max_minutes: float | None = None
    """Validate, save and stop after so long; the run can be continued."""
    tensorboard: bool = True
    """Where it is installed."""
    log_every: int = 50
    """Steps between rows of the log."""

    def __post_init__(self) -> None:
        checks: _Checks = (
            ("device", self.device in get_args(Device), "auto, cpu or cuda"),
            ("workers", self.workers >= 0, "0 or more threads"),
            ("cache-gib", 0 <= self.cache_gib < math.inf, "0 or more"),
            ("max-minutes", self.max_minutes is None or self.max_minutes > 0, "above 0"),
            ("log-every", self.log_every >= 1, "at least 1"),
        )
        _need(self, checks)


def parse_augment(text: str) -> tuple[Augmentation, ...]:
    """``"flips,rot90"`` as :attr:`Recipe.augment`; ``"none"`` is none. Raises :class:`TrainingError`."""
    known: dict[str, Augmentation] = {name: name for name in get_args(Augmentation)}
    names = [name.strip() for name in text.split(",") if name.strip() not in ("", "none")]
    if unknown := [name for name in names if name not in known]:
        raise TrainingError(f"--augment {unknown[0]} cannot be: of {', '.join(known)}, with commas between, or none.")
    return tuple(known[name] for name in names)


def _need(asked: Recipe | Session, checks: _Checks) -> None:
    for option, right, wanted in checks:
        if not right:
            found = getattr(asked, option.replace("-", "_"))
            raise TrainingError(f"--{option} {found} cannot be: {wanted}.")
