"""What a run tells while it runs: events for whoever watches, ``log.jsonl`` for a curve, TensorBoard for those who have it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimo.errors import OutputError
from mimo.files import write_bytes
from mimo.learning.loss import FREQUENCY_WEIGHT


@dataclass(frozen=True)
class Note:
    """A sentence worth reading once."""

    text: str


@dataclass(frozen=True)
class Checking:
    """Pairs decoded before the training starts."""

    done: int
    pairs: int


@dataclass(frozen=True)
class Progress:
    """The state after an update."""

    step: int
    steps: int
    epoch: float
    content: float
    frequency: float
    lr: float
    gradient_norm: float
    """Before clipping."""
    crops_per_second: float
    """Of all processes together, validations left out."""
    seconds_left: float

    @property
    def loss(self) -> float:
        """What is made small."""
        return self.content + FREQUENCY_WEIGHT * self.frequency


@dataclass(frozen=True)
class Validated:
    """The result of a validation."""

    step: int
    psnr: float
    """In dB, by the protocol ``mimo``, mean over the pictures."""
    ssim: float
    """Per channel (``ssim_rgb``), mean over the pictures."""
    sharp_psnr: float
    """What is done to pictures that are sharp already: PSNR in dB of the result to the input, the truths of the same pairs
    (100 at most), mean."""
    sharp_lowest: float
    """The same of the picture that is changed most."""
    pictures: int
    best: bool
    """Whether the PSNR is higher than at every validation before."""
    strip: NDArray[np.uint8] | None = None
    """(H,W,3): blurry, restored and sharp side by side, a row for each of the first pictures."""


Event = Note | Checking | Progress | Validated
Report = Callable[[Event], None]


class RunLog:
    """``log.jsonl`` and, where TensorBoard is installed and wanted, ``tensorboard/`` in the folder of a run.

    One JSON object a line, told apart by ``kind``: ``run`` (a session begins), ``train`` (means over the steps since the
    row before) and ``val``. A number that is not finite is null. Continuing a run takes away the rows after its
    checkpoint, whose steps will come again. Raises :class:`OutputError` when the folder cannot be written to.
    """

    def __init__(self, folder: Path, *, after: int, tensorboard: bool, say: Callable[[str], None] = lambda text: None) -> None:
        """``after``: the step of the checkpoint; ``say``: told once when TensorBoard's files cannot be written."""
        self.path = folder / "log.jsonl"
        kept = [line for line in self._lines() if line[0] <= after]
        write_bytes(self.path, b"".join(line + b"\n" for _, line in kept))
        self._say = say
        self._writer: Any = None
        if tensorboard:
            with self._or_without_tensorboard():
                self._writer = _summary_writer(folder / "tensorboard", after)
        self._sums = np.zeros(4)
        self._steps = 0

    def run(self, step: int, facts: dict[str, Any]) -> None:
        """A session begins at ``step``."""
        self._append({"kind": "run", "step": step, **facts})

    def add(self, progress: Progress) -> None:
        """Count one update in; :meth:`flush` writes the mean."""
        if self._writer is not None:
            with self._or_without_tensorboard():
                for name, value in (
                    ("loss/total", progress.loss),
                    ("loss/content", progress.content),
                    ("loss/frequency", progress.frequency),
                    ("learning rate", progress.lr),
                    ("gradient norm", progress.gradient_norm),
                ):
                    self._writer.add_scalar(name, value, progress.step)
        self._sums += (progress.loss, progress.content, progress.frequency, progress.gradient_norm)
        self._steps += 1

    def flush(self, progress: Progress, samples: int, seconds: float) -> None:
        """Write the mean over the steps since the last call; nothing when there were none."""
        if self._steps == 0:
            return
        loss, content, frequency, norm = (self._sums / self._steps).tolist()
        self._sums[:], self._steps = 0, 0
        self._append({
            "kind": "train",
            "step": progress.step,
            "epoch": round(progress.epoch, 4),
            "samples": samples,
            "loss": loss,
            "content": content,
            "frequency": frequency,
            "lr": progress.lr,
            "gradient_norm": norm,
            "crops_per_second": round(progress.crops_per_second, 3),
            "seconds": round(seconds, 1),
        })  # fmt: skip

    def validated(self, result: Validated) -> None:
        """Write the result of a validation."""
        values = {"psnr": result.psnr, "ssim_rgb": result.ssim, "pictures": result.pictures, "best": result.best}
        harm = {"sharp_psnr": result.sharp_psnr, "sharp_lowest": result.sharp_lowest}
        self._append({"kind": "val", "step": result.step, **values, **harm})
        if self._writer is not None:
            with self._or_without_tensorboard():
                self._writer.add_scalar("validation/PSNR", result.psnr, result.step)
                self._writer.add_scalar("validation/SSIM", result.ssim, result.step)
                self._writer.add_scalar("validation/PSNR of sharp pictures to themselves", result.sharp_psnr, result.step)
                if result.strip is not None:
                    self._writer.add_image("blurry | restored | sharp", result.strip, result.step, dataformats="HWC")
                self._writer.flush()

    def close(self) -> None:
        """End the TensorBoard file."""
        if self._writer is not None:
            with self._or_without_tensorboard():
                self._writer.close()

    @contextmanager
    def _or_without_tensorboard(self) -> Iterator[None]:
        """A disk that is full for a curve is no reason to stop learning: it is said once, and log.jsonl goes on."""
        try:
            yield
        except OSError as error:
            self._writer = None
            self._say(f"TensorBoard's files cannot be written ({error.strerror or error}); log.jsonl has the curve.")

    def _append(self, row: dict[str, Any]) -> None:
        finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
        try:
            with self.path.open("ab") as file:
                file.write(json.dumps(finite, allow_nan=False).encode() + b"\n")
        except OSError as error:
            raise OutputError(f"{self.path} could not be written: {error.strerror or error}.") from error

    def _lines(self) -> list[tuple[int, bytes]]:
        """Step and text of every whole row; what a killed process wrote in part is left out."""
        rows = []
        for line in self.path.read_bytes().splitlines() if self.path.is_file() else []:
            try:
                rows.append((int(json.loads(line)["step"]), line))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                continue
        return rows


def tensorboard_is_installed() -> bool:
    """Whether there is anything to write TensorBoard files with."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError:
        return False
    return True


def _summary_writer(folder: Path, after: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=after + 1)
