"""INT8 with a quality gate: convolutions go to INT8 as far as the result stays what it was.

The ranges are measured on photographs (:mod:`export.calibration`), the graph gets explicit Q/DQ (:mod:`export.qdq`), and the
file is judged on photographs that calibration has not seen before it is written. Where it misses, the convolutions that cost
most go back to the graph's float type, by as few as it takes. Needs no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import platformdirs

from export.calibration import Pictures, pictures_from, ranges_of
from export.onnx_file import Images, check_structure, in_onnxruntime, with_lineage, write_onnx
from export.qdq import SWITCH, quantisable, switchable, unfolded, with_qdq
from export.to_fp16 import to_fp16
from mimo.artifact import INPUT, OUTPUT, Artifact, Receipt, load_onnx, tool_versions
from mimo.errors import ExportError, OutputError
from mimo.files import write_json
from mimo.metrics import psnr
from mimo.onnx_stats import summarise
from mimo.telemetry import import_onnxruntime

MIN_PSNR = 55.0
"""dB to FP32 that every judged crop must reach."""
MAX_PSNR_LOSS = 0.02
"""dB that the mean PSNR against the truth may fall below FP32's."""
RANKED = 64
"""Pixels a side of the crop that convolutions are ranked on: an order needs less than a judgement."""
CACHED = 16
"""Searches that are remembered; the oldest go first."""
_SEARCH = 1
"""Raised when ranges or costs are measured otherwise, so that remembered ones are not used."""


@dataclass(frozen=True)
class Judged:
    """What a choice of convolutions costs on the judged crops."""

    loss: float
    """dB of mean PSNR against the truth."""
    fidelity: float
    """dB to FP32, the worst crop."""

    def holds(self, max_psnr_loss: float) -> bool:
        return self.loss <= max_psnr_loss and self.fidelity >= MIN_PSNR

    def __str__(self) -> str:
        return f"{self.loss:.4f} dB lost against the truth, at least {self.fidelity:.1f} dB to FP32"


@dataclass(frozen=True)
class Search:
    """What was measured of a graph: the range of each convolution's input, and the squared error that INT8 in it alone adds."""

    ranges: Mapping[str, float]
    costs: Mapping[str, float]


def convert_to_int8(
    source: Artifact,
    out: Path,
    *,
    calibrate: Path | None = None,
    max_psnr_loss: float = MAX_PSNR_LOSS,
    keep_float: Collection[str] = (),
    half: bool = False,
    cache: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Artifact:
    """Write the INT8 graph of the FP32 ONNX artifact ``source`` to ``out`` with its sidecar, and return it.

    ``calibrate``: see :func:`export.calibration.pictures_from`. ``half``: everything that is not INT8 is FP16, else FP32.
    ``keep_float`` names convolutions that stay. ``cache``: a folder in which the measurements are remembered.

    Raises :class:`ExportError`, and leaves nothing behind, when ``source`` is not FP32 ONNX with one output, a name is
    unknown, or no convolution at all can be INT8 within ``max_psnr_loss`` dB and at least :data:`MIN_PSNR` dB to FP32.
    """
    if (source.format, source.precision) != ("onnx", "fp32"):
        raise ExportError(f"{source.path} is {source.format} in {source.precision}: INT8 is made from an FP32 ONNX file.")
    proto = load_onnx(source.path)
    model = unfolded(ir.from_proto(proto))
    outputs = tuple(summarise(proto).outputs)
    if outputs != (OUTPUT,):
        raise ExportError(f"{source.path} has {len(outputs)} outputs, and INT8 is judged on one: export it without all scales.")
    names = set(quantisable(model))
    if unknown := sorted(set(keep_float) - names):
        raise ExportError(f"the graph has no convolution {', '.join(unknown)}: mimo inspect lists the names.")
    pictures = pictures_from(calibrate, source.spec.size_multiple)
    search = _remembered(cache, f"{source.sha256} {pictures.sha256}", names, lambda: search_of(model, pictures, progress))
    chosen, judged = _choose(
        model, search, pictures, names - set(keep_float), max_psnr_loss=max_psnr_loss, half=half, progress=progress
    )
    kept = {name: _why(name, search, keep_float) for name in sorted(names - chosen, key=search.costs.__getitem__)[::-1]}
    rest = sum(count for name, count in summarise(proto).operators.items() if name in ("Conv", "ConvTranspose")) - len(chosen)
    counts = {"int8": len(chosen), "fp16" if half else "fp32": rest}
    artifact = replace(
        source,
        path=out,
        precision="int8",
        parent=source.path.name,
        parent_sha256=source.sha256,
        receipt=Receipt({name: count for name, count in counts.items() if count}, {}, 0),
        kept_float=kept,
        tools={**source.tools, **tool_versions("onnx", "onnx-ir", "onnxruntime")},
    )
    progress(f"{len(chosen)} of {len(names)} convolutions in INT8: {judged}")
    converted = with_lineage(_graph(model, search, chosen, half), artifact)
    check_structure(converted, (OUTPUT,), source.spec.size_multiple)
    return write_onnx(converted, artifact)


def search_cache() -> Path:
    """Where the measurements are remembered: a folder in this platform's place for caches."""
    return Path(platformdirs.user_cache_dir("mimo")) / "int8"


def search_of(model: ir.Model, pictures: Pictures, progress: Callable[[str], None] = lambda _: None) -> Search:
    """Measure ranges, then the cost of each convolution: the mean squared error to FP32 when it alone is INT8."""
    ranges = ranges_of(model, pictures.calibration, progress)
    run = _switched(model, ranges)
    crops = [blur[:, :, :RANKED, :RANKED] for blur, _ in pictures.judged][:1]
    references = [run(crop, ()) for crop in crops]
    costs = {}
    for number, name in enumerate(ranges):
        progress(f"ranking convolutions: {number + 1} of {len(ranges)}")
        errors = [np.mean((run(crop, (name,)) - found) ** 2) for crop, found in zip(crops, references, strict=True)]
        costs[name] = float(np.mean(errors))
    return Search(ranges, costs)


def _choose(
    model: ir.Model,
    search: Search,
    pictures: Pictures,
    candidates: Collection[str],
    *,
    max_psnr_loss: float,
    half: bool,
    progress: Callable[[str], None],
) -> tuple[set[str], Judged]:
    """As many of ``candidates`` as hold, the cheapest first: halving on the number, each judged as the file computes."""
    order = sorted(candidates, key=search.costs.__getitem__)
    plain = in_onnxruntime(_proto(model))
    references = [plain(blur)[0] for blur, _ in pictures.judged]
    held: tuple[int, Judged] | None = None
    low, count, high = 0, len(order), len(order)
    while low < high:
        run = in_onnxruntime(_proto(_graph(model, search, order[:count], half)))
        found = _judged(references, [run(blur)[0] for blur, _ in pictures.judged], pictures)
        progress(f"{count} of {len(order)} convolutions in INT8: {found}")
        if found.holds(max_psnr_loss):
            low, held = count, (count, found)
        else:
            high = count - 1
        count = (low + high + 1) // 2
    if held is None:
        raise ExportError(
            f"no convolution of this network can be INT8 within {max_psnr_loss:g} dB and at least {MIN_PSNR:g} dB to FP32: "
            "use FP16, or calibrate on other photographs."
        )
    return set(order[: held[0]]), held[1]


def _judged(references: list[Images], results: list[Images], pictures: Pictures) -> Judged:
    losses = [
        psnr(reference, sharp) - psnr(result, sharp)
        for reference, result, (_, sharp) in zip(references, results, pictures.judged, strict=True)
    ]
    fidelity = min(
        -10 * np.log10(max(float(np.mean((reference.astype(np.float64) - result) ** 2)), 1e-30))
        for reference, result in zip(references, results, strict=True)
    )
    return Judged(float(np.mean(losses)), float(fidelity))


def _graph(model: ir.Model, search: Search, chosen: Collection[str], half: bool) -> ir.Model:
    return with_qdq(to_fp16(model) if half else model, search.ranges, chosen)


def _proto(model: ir.Model) -> onnx.ModelProto:
    proto = ir.to_proto(model)
    proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import)
    return proto


def _switched(model: ir.Model, ranges: Mapping[str, float]) -> Callable[[Images, Collection[str]], Images]:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    content = _proto(switchable(model, ranges)).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Images, names: Collection[str]) -> Images:
        switches = {SWITCH + name: np.array(name in names) for name in ranges}
        result: Images = session.run(None, {INPUT: images, **switches})[0]
        return result

    return run


def _why(name: str, search: Search, keep_float: Collection[str]) -> str:
    return (
        "--keep-float"
        if name in keep_float
        else f"INT8 in it alone: {-10 * np.log10(max(search.costs[name], 1e-30)):.1f} dB to FP32"
    )


def _remembered(folder: Path | None, about: str, names: Collection[str], measure: Callable[[], Search]) -> Search:
    """What was measured before, or ``measure()``, which is written to ``folder``; nothing is where that cannot be."""
    if folder is None:
        return measure()
    path = folder / f"{hashlib.sha256(f'{_SEARCH} {about}'.encode()).hexdigest()}.json"
    try:
        known = json.loads(path.read_text())
        ranges, costs = ({str(name): float(value) for name, value in known[part].items()} for part in ("ranges", "costs"))
        if set(ranges) == set(costs) == set(names):
            return Search(ranges, costs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # not there, or damaged: it is measured again and replaced
    found = measure()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {"ranges": dict(found.ranges), "costs": dict(found.costs)})
        for old in sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime)[:-CACHED]:
            old.unlink(missing_ok=True)
    except (OSError, OutputError):
        pass
    return found
