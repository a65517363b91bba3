"""The one table of runtimes: what each takes, where it runs, what is behind it, how to get it, how to open it.

Nothing heavy is imported here: commands and their help read the table. What a row's functions need they import themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from mimo.errors import EngineUnavailable
from mimo.formats import FORMATS, Format
from mimo.installing import install

if TYPE_CHECKING:
    from engines.runtimes.base import Engine
    from mimo.artifact import Artifact

Runtime = Literal["pytorch", "openvino", "onnxruntime", "tensorrt", "tensorrt-rtx", "triton"]
TensorRT = Literal["tensorrt", "tensorrt-rtx"]
Device = Literal["cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)
Precision = Literal["fp32", "bf16", "fp16"]
"""What arithmetic can be asked for."""
FileKind = Literal["checkpoint", Format, "served"]
"""``served``: a model on a server, which is no file here."""


@dataclass(frozen=True)
class Opening:
    """What to open and how; device and precision chosen, but for a precision of ``auto``, which is the runtime's choice."""

    path: Path
    artifact: Artifact | None
    """None for a checkpoint."""
    device: Device
    precision: Precision | Literal["auto"] = "auto"
    threads: int | None = None
    """None for :func:`~engines.runtimes.threads.threads_for`'s answer."""
    eager: bool = False
    """Let TensorRT-RTX compile its kernels for each shape before the first run of it, not beside the runs."""
    cuda_graph: bool = False

    def made(self) -> Artifact:
        """The artifact, for runtimes that take no checkpoint."""
        assert self.artifact is not None
        return self.artifact

    def only(self, computes: str) -> None:
        """Raise :class:`EngineUnavailable` when another precision than ``computes`` is asked for."""
        if self.precision not in ("auto", computes):
            raise EngineUnavailable(
                f"{self.path.name} is computed in {computes} on the {self.device}: leave the precision out, or use a "
                f"file or a runtime that computes in {self.precision}."
            )


@dataclass(frozen=True)
class RuntimeInfo:
    """One runtime."""

    name: Runtime
    accepts: tuple[FileKind, ...]
    devices: tuple[Device, ...]
    module: str
    """What is imported."""
    distributions: tuple[str, ...]
    """What is installed, any one of them."""
    extras: tuple[str, ...]
    """Of this project, each of which brings it."""
    instead: str
    """How to come by a file that it takes."""
    bytes_per_pixel: int
    """What it holds for each pixel it computes at once: the largest figure measured at 512x512 and 1024x1024 on the CPU,
    MIMO-UNet in fp32, rounded up; of ONNX Runtime without memory patterns, which would double it from the second tile on. The
    two TensorRTs take their sizes from the profile; theirs is never asked for."""
    open: Callable[[Opening], Engine]
    cuda_bytes_per_pixel: int | None = None
    """The same on a GPU in fp32, of which fp16 takes half: the maps of MIMO-UNet that live at once, added up, rounded up. Not
    measured on one. None where no memory is planned there."""
    has_cuda: Callable[[], bool] = lambda: False
    """Whether it can use a GPU on this machine now."""
    cuda_graphs: bool = False

    @property
    def install(self) -> str:
        """The command that installs it."""
        return " or ".join(install(extra) for extra in self.extras)

    @property
    def is_installed(self) -> bool:
        """Whether its module is found; it may still fail to load."""
        return find_spec(self.module) is not None

    def can_use(self, device: Device) -> bool:
        """Whether it runs on ``device`` on this machine."""
        return device in self.devices and (self.has_cuda() if device == "cuda" else self.is_installed)


def _open_pytorch(opening: Opening) -> Engine:
    if not find_spec("torch"):
        raise EngineUnavailable(
            f"{opening.path.name} is a checkpoint and torch is not installed: {runtime_info('pytorch').install}, or use an "
            "ONNX file."
        )
    from engines.runtimes.pytorch import PyTorchEngine
    from mimo.networks.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(opening.path)
    if opening.precision == "auto" and opening.device == "cuda":
        return PyTorchEngine(checkpoint, "cuda", "fp16", lean=True, channels_last=True, cuda_graph=True)
    return PyTorchEngine(
        checkpoint,
        opening.device,
        "fp32" if opening.precision == "auto" else opening.precision,
        threads=opening.threads,
        cuda_graph=opening.cuda_graph,
    )


def _pytorch_has_cuda() -> bool:
    if not find_spec("torch"):
        return False
    import torch

    return torch.cuda.is_available()


def _open_openvino(opening: Opening) -> Engine:
    from engines.runtimes.openvino import OpenVinoEngine

    if opening.precision == "fp16":
        raise EngineUnavailable("openvino computes in fp32 and bf16 on the CPU: ask for one of these.")
    compute = None if opening.precision == "auto" else opening.precision
    return OpenVinoEngine(opening.made(), compute, threads=opening.threads)


def _open_onnxruntime(opening: Opening) -> Engine:
    from engines.runtimes.onnxruntime import OnnxRuntimeEngine

    opening.only(opening.made().precision if opening.device == "cuda" else "fp32")
    return OnnxRuntimeEngine(opening.made(), opening.device, threads=opening.threads)


def _onnxruntime_has_cuda() -> bool:
    from engines.runtimes.cuda import cuda_is_here
    from mimo.telemetry import import_onnxruntime

    if not find_spec("onnxruntime"):
        return False
    return "CUDAExecutionProvider" in import_onnxruntime().get_available_providers() and cuda_is_here()


def _open_tensorrt(opening: Opening) -> Engine:
    from engines.runtimes.tensorrt import TensorRTEngine

    opening.only(opening.made().precision)
    return TensorRTEngine(opening.made(), eager=opening.eager, cuda_graph=opening.cuda_graph)


def _tensorrt_has_cuda(name: TensorRT) -> bool:
    from engines.runtimes.cuda import cuda_is_here
    from engines.runtimes.tensorrt_api import load_tensorrt

    try:
        load_tensorrt(name)
    except EngineUnavailable:
        return False
    return cuda_is_here()


def _open_triton(opening: Opening) -> Engine:
    from engines.runtimes.triton import TritonEngine
    from mimo.served import ServedModel

    assert isinstance(opening.path, ServedModel)
    engine = TritonEngine(opening.path)
    try:
        opening.only(engine.compute)
    except BaseException:
        engine.close()
        raise
    return engine


RUNTIMES: tuple[RuntimeInfo, ...] = (
    RuntimeInfo(
        name="pytorch",
        accepts=("checkpoint",),
        devices=("cpu", "cuda"),
        module="torch",
        distributions=("torch",),
        extras=("torch",),
        instead="name the checkpoint it was made from",
        bytes_per_pixel=3700,
        open=_open_pytorch,
        cuda_bytes_per_pixel=2300,
        has_cuda=_pytorch_has_cuda,
        cuda_graphs=True,
    ),
    RuntimeInfo(
        name="openvino",
        accepts=("openvino", "onnx"),
        devices=("cpu",),
        module="openvino",
        distributions=("openvino",),
        extras=("cpu",),
        instead="export it first with mimo export --to openvino or --to onnx",
        bytes_per_pixel=2500,
        open=_open_openvino,
    ),
    RuntimeInfo(
        name="onnxruntime",
        accepts=("onnx",),
        devices=("cpu", "cuda"),
        module="onnxruntime",
        distributions=("onnxruntime", "onnxruntime-gpu"),
        extras=("cpu", "gpu"),
        instead="export it first with mimo export --to onnx",
        bytes_per_pixel=2700,
        open=_open_onnxruntime,
        cuda_bytes_per_pixel=1050,
        has_cuda=_onnxruntime_has_cuda,
    ),
    RuntimeInfo(
        name="tensorrt",
        accepts=("tensorrt",),
        devices=("cuda",),
        module="tensorrt",
        distributions=("tensorrt",),
        extras=("tensorrt",),
        instead="build it with mimo build-engine --runtime tensorrt",
        bytes_per_pixel=2700,
        open=_open_tensorrt,
        has_cuda=lambda: _tensorrt_has_cuda("tensorrt"),
        cuda_graphs=False,
    ),
    RuntimeInfo(
        name="tensorrt-rtx",
        accepts=("tensorrt-rtx",),
        devices=("cuda",),
        module="tensorrt_rtx",
        distributions=("tensorrt-rtx-cu13",),
        extras=("tensorrt-rtx",),
        instead="build it with mimo build-engine --runtime tensorrt-rtx",
        bytes_per_pixel=2700,
        open=_open_tensorrt,
        has_cuda=lambda: _tensorrt_has_cuda("tensorrt-rtx"),
        cuda_graphs=True,
    ),
    RuntimeInfo(
        name="triton",
        accepts=("served",),
        devices=("cpu", "cuda"),
        module="tritonclient",
        distributions=("tritonclient",),
        extras=("triton",),
        instead="add it to a server's model repository with mimo export --to triton, and name triton://HOST:PORT/MODEL",
        bytes_per_pixel=2700,
        open=_open_triton,
    ),
)
"""In the order in which ``auto`` prefers them."""


def runtime_info(name: Runtime) -> RuntimeInfo:
    """The row of ``name``."""
    return next(row for row in RUNTIMES if row.name == name)


def runtimes_for(kind: FileKind) -> list[RuntimeInfo]:
    """The runtimes that take files of ``kind``, in the order of preference; at least one."""
    return [row for row in RUNTIMES if kind in row.accepts]


def places(kind: FileKind) -> list[tuple[RuntimeInfo, Device]]:
    """All runtimes that take files of ``kind``, on the CPU and, where one can use it now, on the GPU; an engine always asks
    for one.
    """
    return [
        (row, device)
        for device in DEVICES
        for row in runtimes_for(kind)
        if device in row.devices and (device == "cpu" or "cpu" not in row.devices or row.has_cuda())
    ]


def title_of(kind: FileKind) -> str:
    """What a person calls a file of ``kind``, with its article."""
    others = {"checkpoint": "a checkpoint", "served": "a model on a Triton server"}
    return others.get(kind) or next(row.title for row in FORMATS if row.name == kind)


def choose(
    kind: FileKind, runtime: Runtime | Literal["auto"] = "auto", device: Device | Literal["auto"] = "auto"
) -> tuple[RuntimeInfo, Device]:
    """The runtime and the device that ``auto`` means for ``kind`` on this machine; what was named stays as it is.

    With both open, a GPU is taken where a runtime that takes the file can use it now, otherwise the first that is installed.
    """
    rows = runtimes_for(kind) if runtime == "auto" else [runtime_info(runtime)]
    if device in ("auto", "cuda"):
        able = [row for row in rows if "cuda" in row.devices]
        if here := [row for row in able if row.has_cuda()]:
            return here[0], "cuda"
        if device == "cuda" or (len(able) == len(rows) and not any("cpu" in row.devices for row in rows)):
            return (able or rows)[0], "cuda"
    able = [row for row in rows if "cpu" in row.devices] or rows
    return next((row for row in able if row.is_installed), able[0]), "cpu"


def refusal(kind: FileKind, name: str, row: RuntimeInfo, device: Device, *, cuda_graph: bool = False) -> str | None:
    """Why ``row`` cannot take the file ``name`` so, with the cure; None when it can."""
    if kind not in row.accepts:
        takes = " or ".join(title_of(one) for one in row.accepts)
        return f"{name} is {title_of(kind)}, but {row.name} takes {takes} only: {row.instead}."
    if device not in row.devices:
        others = [other.name for other in runtimes_for(kind) if device in other.devices]
        where = "NVIDIA GPUs" if row.devices == ("cuda",) else "the CPU"
        cure = f"or {' or '.join(others)} for {device}" if others else "or another file, such as an ONNX file"
        return f"{row.name} runs on {where} only: use --device {row.devices[0]}, {cure}."
    if cuda_graph and not row.cuda_graphs:
        able = ", ".join(other.name for other in RUNTIMES if other.cuda_graphs)
        return f"{row.name} does not run with CUDA graphs: leave the CUDA graph out, or use {able}."
    return None
