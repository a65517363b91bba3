"""The course of a run: learn, validate, save, until it ends or is asked to stop."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from mimo.artifact import tool_versions
from mimo.errors import TrainingError
from mimo.files import sha256_of, write_bytes, write_json
from mimo.images import Photo, write_photo
from mimo.learning.crops import Batch, Pictures, Source, batches, to_device
from mimo.learning.log import Progress, Report, RunLog, Validated
from mimo.learning.recipe import Session
from mimo.learning.state import Learner, is_tf32, read_run
from mimo.learning.validation import validate
from mimo.networks.checkpoint import save_checkpoint

LAST, BEST, WEIGHTS = "last.pt", "best.pt", "weights.safetensors"

# Why a session ends before the run does. Ordered: with several processes the highest of their reasons counts.
_GO_ON, _TIME, _SIGNAL = 0, 1, 2


@dataclass(frozen=True)
class Outcome:
    """How a session ended."""

    step: int
    steps: int
    stopped: Literal["done", "time", "signal"]
    best_psnr: float | None
    """In dB; None without validation pictures."""
    best_step: int
    weights: Path | None
    """``weights.safetensors``; None when the session ended before anything was worth writing."""
    writer: bool = True
    """Whether this is the process that reports; one of several does."""


@dataclass
class Course:
    """One session's way through a run: what is due after which step."""

    learner: Learner
    crops: Source
    pictures: Pictures
    validation: Sequence[int]
    """Places of the validation pairs among :attr:`pictures`."""
    out: Path
    session: Session
    deadline: float | None
    """On the monotonic clock."""
    data: str
    log: RunLog | None
    """The writer's."""
    report: Report
    pending: list[tuple[int, float, Tensor]] = field(default_factory=list)
    """Step, learning rate and what the step returned, still on the device."""
    latest: Progress | None = None
    rate: float = 0.0
    """Crops per second, smoothed."""
    since: float = 0.0
    """When the crops after :attr:`since_samples` began to be counted."""
    since_samples: int = 0

    def __post_init__(self) -> None:
        self.world, self.recipe = self.learner.world, self.learner.recipe
        self.steps = self.recipe.steps(self.crops.pairs, self.world.size)

    def follow(self, received: Callable[[], bool], *, fresh: bool) -> Outcome:
        """Learn, validate and save until the run, the time or the patience of the user ends."""
        learner, recipe, world = self.learner, self.recipe, self.world
        saved = (learner.step, learner.validated)
        if self.log is not None:
            facts = {
                "recipe": recipe.to_json(),
                "tools": tool_versions("torch"),
                "device": str(world.device),
                "tf32": is_tf32(world.device),
            }
            self.log.run(learner.step, facts | {"processes": world.size, "steps": self.steps, "pairs": self.crops.pairs})
        if fresh:
            # Says at once when the folder cannot take a checkpoint, and gives every later error one to name.
            self._save(best=False)
        self._rest()
        with closing(self._batches()) as loading:
            while True:
                late = self.deadline is not None and time.monotonic() >= self.deadline
                why = world.highest(_SIGNAL if received() else _TIME if late else _GO_ON)
                finished = learner.step >= self.steps
                best = False
                if self._validation_is_due(ending=finished or why == _TIME) and why != _SIGNAL:
                    judged = self._validate(received)
                    best = judged is True
                    why = _SIGNAL if judged is None else why
                ending = finished or why != _GO_ON
                due = ending or learner.validated == learner.step or learner.step % recipe.save_every == 0
                if due and saved != (learner.step, learner.validated):
                    self._save(best)
                    saved = (learner.step, learner.validated)
                if ending:
                    return self._outcome("signal" if why == _SIGNAL else "done" if finished else "time")
                self._step(*next(loading))

    def _batches(self) -> Generator[Batch]:
        size = self.recipe.batch_size
        first = self.learner.samples + self.world.rank * size
        pinned = self.world.device.type == "cuda"
        return batches(
            self.crops, first=first, size=size, stride=size * self.world.size, workers=self.session.workers, pinned=pinned
        )

    def _step(self, blur: Tensor, sharp: Tensor) -> None:
        learner, device = self.learner, self.world.device
        epoch = learner.samples // self.crops.pairs
        rate = self.recipe.learning_rate(learner.step, steps=self.steps, epoch=epoch)
        x, truth = (to_device(batch, device, channels_last=True) for batch in (blur, sharp))
        values = learner.learn(x, truth, rate)
        self.pending.append((learner.step, rate, values))
        # Reading a result makes a GPU wait for it: only now and then. A CPU has it already.
        if device.type == "cpu" or len(self.pending) >= 10:
            self._collect()
        if learner.step % self.session.log_every == 0:
            self._collect()
            self._write_row()

    def _collect(self) -> None:
        """Read what the last steps returned; raises :class:`TrainingError` at the first that went wrong.

        Called at the same steps by every process: the values are averaged over them.
        """
        if not self.pending:
            return
        values = torch.stack([value for _, _, value in self.pending]).double().cpu()
        means = (self.world.sum(values) / self.world.size).tolist()
        now = time.monotonic()
        self.learner.seconds += now - self.since
        rate = (self.learner.samples - self.since_samples) / max(now - self.since, 1e-9)
        self.rate = rate if self.rate == 0 else 0.9 * self.rate + 0.1 * rate
        self.since, self.since_samples = now, self.learner.samples
        per_step = self.recipe.batch_size * self.world.size
        for (step, lr, _), (content, frequency, norm) in zip(self.pending, means, strict=True):
            epoch = step * per_step / self.crops.pairs
            left = (self.steps - step) * per_step / self.rate
            left = left if self.deadline is None else min(left, max(0.0, self.deadline - now))
            progress = Progress(step, self.steps, epoch, content, frequency, lr, norm, self.rate, left)
            if trouble := self.learner.watchdog.trouble(progress.loss):
                raise TrainingError(f"{trouble} at step {step}; lower --lr or set --grad-clip. {good(self.out)}")
            self.latest = progress
            if self.log is not None:
                self.log.add(progress)
        self.pending.clear()
        assert self.latest is not None
        self.report(self.latest)

    def _write_row(self) -> None:
        if self.log is not None and self.latest is not None:
            self.log.flush(self.latest, self.learner.samples, self.learner.seconds)

    def _validation_is_due(self, *, ending: bool) -> bool:
        learner = self.learner
        new = learner.step > learner.validated and len(self.validation) > 0
        return new and (ending or learner.step % self.recipe.val_every == 0)

    def _validate(self, received: Callable[[], bool]) -> bool | None:
        """Whether this is the best so far; None when interrupted."""
        self._collect()
        self._write_row()
        learner = self.learner
        result = validate(
            learner.deployed,
            self.pictures,
            self.validation,
            crop=self.recipe.val_crop,
            multiple=self.recipe.spec.size_multiple,
            world=self.world,
            interrupted=received,
        )
        if result is None:
            return None
        psnr, strip = result.psnr, result.strip
        learner.validated = learner.step
        best = psnr > (-math.inf if learner.best is None else learner.best)
        if best:
            learner.best, learner.best_step = psnr, learner.step
        event = Validated(
            learner.step, psnr, result.ssim, result.sharp_psnr, result.sharp_lowest, len(self.validation), best, strip
        )
        if self.log is not None:
            self.log.validated(event)
            if strip is not None:
                write_photo(self.out / "validation.png", Photo(strip, None))
        self.report(event)
        self._rest()
        return best

    def _save(self, best: bool) -> None:
        """Every process must call this; one writes."""
        self._collect()
        self._write_row()
        learner = self.learner
        if not learner.finite():
            raise TrainingError(f"a weight is no longer finite at step {learner.step}; lower --lr. {good(self.out)}")
        packed = learner.packed(self.data)
        if self.world.writer:
            if best:
                write_bytes(self.out / BEST, packed)
            if best or (not self.validation and learner.step >= self.steps):
                save_checkpoint(self.out / WEIGHTS, self.recipe.spec, learner.deployed.state_dict(), self._lineage())
            write_bytes(self.out / LAST, packed)
            # After the checkpoint, which is continued by it: a run that failed before has changed neither.
            write_json(self.out / "recipe.json", self.recipe.to_json())
        self._rest()

    def _rest(self) -> None:
        """What was just done does not count as learning."""
        self.since, self.since_samples = time.monotonic(), self.learner.samples

    def _lineage(self) -> dict[str, str]:
        recipe, learner = self.recipe, self.learner
        given = Counter(path.name for path in (*recipe.data, *recipe.photographs))
        lineage = {
            "origin": "mimo train",
            "step": str(learner.step),
            "samples": str(learner.samples),
            "data": ", ".join(f"{name} x{times}" if times > 1 else name for name, times in given.items()),
            "data_sha256": self.data,
            "recipe": json.dumps({key: value for key, value in recipe.to_json().items() if key not in _PLACES}),
        }
        if learner.best is not None:
            lineage["validation_psnr"] = f"{learner.best:.4f}"
        if recipe.init is not None:
            lineage["init"] = recipe.init.name
            if recipe.init.is_file():
                lineage["init_sha256"] = sha256_of(recipe.init)
        return lineage

    def _outcome(self, stopped: Literal["done", "time", "signal"]) -> Outcome:
        weights, learner = self.out / WEIGHTS, self.learner
        return Outcome(
            step=learner.step,
            steps=self.steps,
            stopped=stopped,
            best_psnr=learner.best,
            best_step=learner.best_step,
            weights=weights if weights.is_file() else None,
            writer=self.world.writer,
        )


# Where files lay on the machine that trained concerns nobody else.
_PLACES = ("data", "photographs", "validation", "init")


def good(out: Path) -> str:
    """The end of an error's text: what can be continued from."""
    if not (out / LAST).is_file():
        return "No checkpoint had been written."
    step = read_run(out / LAST)["position"]["step"]
    return f"The last good checkpoint is {out / LAST} of step {step}: continue with --resume {out}, or from it with --init."
