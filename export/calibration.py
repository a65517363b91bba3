"""The range of what each convolution reads, measured on photographs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.onnx_file import Images, in_onnxruntime
from export.qdq import LEVELS, quantisable
from mimo.bundled import PHOTOGRAPHS
from mimo.errors import ExportError
from mimo.images import read_rgb
from mimo.padding import pad_to
from mimo.pictures import pictures_of

AT_ONCE = 16
"""Values in between that one run gives back: this bounds the memory, not the result."""

KEPT = 16384
"""Samples of each value and crop that the range is chosen on, evenly spread."""


@dataclass(frozen=True)
class Pictures:
    """Crops to calibrate on, and others to judge on: no photograph is in both."""

    calibration: tuple[Images, ...]
    """Each (1,3,S,S) float32 in [0,1]."""
    judged: tuple[tuple[Images, Images], ...]
    """Blurry and sharp, each (1,3,S,S)."""

    @property
    def sha256(self) -> str:
        """Of all pixels."""
        total = hashlib.sha256()
        for images in (*self.calibration, *(image for pair in self.judged for image in pair)):
            total.update(repr(images.shape).encode() + images.tobytes())
        return total.hexdigest()


def pictures_from(folder: Path | None, multiple: int, *, crops: int = 8, side: int = 128) -> Pictures:
    """Calibration crops from ``folder``, by default from all bundled photographs but the last; judged on bundled pairs.

    Without ``folder`` the last bundled pair alone is judged on, which calibration has not seen. Raises :class:`ExportError`
    for a folder without photographs or one that holds the pictures that are judged on;
    :class:`~mimo.errors.ImageError` for one that cannot be read.
    """
    pairs = [(path, PHOTOGRAPHS / "sharp" / path.name) for path in pictures_of(PHOTOGRAPHS / "blur")]
    if folder is None:
        sources, judged = [path for pair in pairs[:-1] for path in pair], pairs[-1:]
    else:
        sources, judged = (pictures_of(folder) if folder.is_dir() else []), pairs
        if not sources:
            raise ExportError(f"{folder} holds no photographs to calibrate on: name a folder that does.")
        known = {path.read_bytes() for pair in pairs for path in pair}
        if any(path.read_bytes() in known for path in sources):
            raise ExportError(f"{folder} holds bundled photographs, on which the result is judged: calibrate on others.")
    side = -(-side // multiple) * multiple
    generator = np.random.default_rng(0)
    chosen = [sources[index] for index in np.linspace(0, len(sources) - 1, min(crops, len(sources))).round().astype(int)]
    share = -(-crops // len(chosen))
    calibration = [crop for path in chosen for crop in _crops([path], side, share, generator)]
    each = -(-crops // len(judged))
    held = [crop for pair in judged for crop in zip(*_paired(pair, side, each, generator), strict=True)]
    return Pictures(tuple(crop[0] for crop in calibration)[:crops], tuple((blur, sharp) for blur, sharp in held)[:crops])


def _paired(
    pair: tuple[Path, Path], side: int, count: int, generator: np.random.Generator
) -> tuple[list[Images], list[Images]]:
    found = _crops(pair, side, count, generator)
    return [crop[0] for crop in found], [crop[1] for crop in found]


def _crops(paths: Sequence[Path], side: int, count: int, generator: np.random.Generator) -> list[tuple[Images, ...]]:
    """``count`` crops, each of the same place in all of ``paths``."""
    images = [pad_to(read_rgb(path), side, side) for path in paths]
    found = []
    for _ in range(count):
        top, left = (int(generator.integers(size - side + 1)) for size in images[0].shape[1:])
        found.append(tuple(image[None, :, top : top + side, left : left + side].copy() for image in images))
    return found


def ranges_of(model: ir.Model, crops: Sequence[Images], progress: Callable[[str], None] = lambda _: None) -> dict[str, float]:
    """By convolution: the largest magnitude of its input to tell apart, the one with the least squared error on ``crops``.

    ``model`` is FP32. A few rare extremes cost less when they are cut off than when everything else is rounded more coarsely.
    """
    sources = {name: node.inputs[0] for name, node in quantisable(model).items()}
    names = list(dict.fromkeys(value.name for value in sources.values() if value is not None and value.name))
    found: dict[str, float] = {}
    for start in range(0, len(names), AT_ONCE):
        progress(f"calibrating: {start} of {len(names)} values on {len(crops)} crops")
        found |= _measured(model, names[start : start + AT_ONCE], crops)
    return {name: found[value.name] for name, value in sources.items() if value is not None and value.name}


def _measured(model: ir.Model, names: Sequence[str], crops: Sequence[Images]) -> Mapping[str, float]:
    watched = model.clone()
    values = {value.name: value for node in watched.graph for value in node.outputs}
    values |= {value.name: value for value in watched.graph.inputs}
    shown = []
    for name in names:  # an Identity: the input itself, and what is an output already, can be watched too
        node = ir.node("Identity", [values[name]], name=f"watch.{name}")
        node.outputs[0].name, node.outputs[0].type = f"watch.{name}", ir.TensorType(ir.DataType.FLOAT)
        watched.graph.append(node)
        shown.append(node.outputs[0])
    watched.graph.outputs.clear()
    watched.graph.outputs.extend(shown)
    run = in_onnxruntime(ir.to_proto(watched))
    samples: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    largest = dict.fromkeys(names, 0.0)
    for crop in crops:
        for name, value in zip(names, run(crop), strict=True):
            magnitudes = np.abs(value).ravel()
            largest[name] = max(largest[name], float(magnitudes.max(initial=0.0)))
            samples[name].append(magnitudes[:: max(1, magnitudes.size // KEPT)])
    return {name: _best_range(np.concatenate(samples[name]), largest[name]) for name in names}


def _best_range(magnitudes: NDArray[np.float32], largest: float) -> float:
    if largest == 0:
        return 1.0

    def error(limit: float) -> float:
        step = limit / LEVELS
        rounded = np.minimum(np.rint(magnitudes / step), LEVELS) * step
        return float(np.mean((rounded - magnitudes) ** 2))

    return min((float(largest * share) for share in np.linspace(1.0, 0.3, 15)), key=error)
