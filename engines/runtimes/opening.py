"""From a file to a running engine: the one place that knows all runtimes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal, assert_never

from engines.runtimes.base import Device, Engine, Precision, Runtime
from mimo.artifact import Artifact, open_artifact
from mimo.errors import EngineUnavailable

CHECKPOINT_SUFFIXES = (".pkl", ".pt", ".pth", ".ckpt", ".safetensors")


def open_engine(
    path: Path,
    runtime: Runtime | Literal["auto"] = "auto",
    device: Device | Literal["auto"] = "auto",
    *,
    precision: Precision | Literal["auto"] = "auto",
    eager: bool = False,
    cuda_graph: bool = False,
) -> Engine:
    """Load a checkpoint, an ONNX file or a TensorRT engine on a runtime that takes it.

    ``runtime="auto"``: PyTorch for a checkpoint; for ONNX, on a CPU OpenVINO if it is installed and else ONNX Runtime, on
    CUDA ONNX Runtime; for an engine, the TensorRT it was built with. ``device="auto"``: CUDA for an engine; elsewhere CUDA
    when the chosen runtime can use it here, otherwise the CPU. What was named is what is used: if it is not here,
    :class:`EngineUnavailable` is raised and nothing else is tried. ``precision="auto"``: float32 in PyTorch and in ONNX
    Runtime on the CPU, bfloat16 in OpenVINO where the processor has it, elsewhere the graph's. ``eager``: see
    :class:`~engines.runtimes.tensorrt.TensorRTEngine`; ``cuda_graph``: there and in
    :class:`~engines.runtimes.pytorch.PyTorchEngine`.
    """
    if path.suffix in CHECKPOINT_SUFFIXES:
        if runtime not in ("auto", "pytorch"):
            raise EngineUnavailable(f"{path.name} is a checkpoint, which only pytorch runs: export it first with mimo export.")
        return _open_checkpoint(path, device, precision, cuda_graph=cuda_graph)
    artifact = open_artifact(path)
    if runtime == "auto":
        runtime = choose_runtime(artifact, device)
    if reason := _unfit(artifact, runtime, device, cuda_graph=cuda_graph):
        raise EngineUnavailable(reason)
    match runtime:
        case "onnxruntime":
            from engines.runtimes.onnxruntime import OnnxRuntimeEngine

            chosen: Device = "cuda" if device == "cuda" or (device == "auto" and onnxruntime_has_cuda()) else "cpu"
            _check_precision(precision, artifact.precision if chosen == "cuda" else "fp32", artifact, runtime, chosen)
            return OnnxRuntimeEngine(artifact, chosen)
        case "openvino":
            from engines.runtimes.openvino import OpenVinoEngine

            if precision == "fp16":
                raise EngineUnavailable("openvino computes in fp32 and bf16 on the CPU: ask for one of these.")
            return OpenVinoEngine(artifact, None if precision == "auto" else precision)
        case "tensorrt" | "tensorrt-rtx":
            from engines.runtimes.tensorrt import TensorRTEngine

            _check_precision(precision, artifact.precision, artifact, runtime, "cuda")
            return TensorRTEngine(artifact, eager=eager, cuda_graph=cuda_graph)
        case "pytorch":
            raise AssertionError("a checkpoint's, refused above")
        case _:
            assert_never(runtime)


def _unfit(artifact: Artifact, runtime: Runtime, device: Device | Literal["auto"], *, cuda_graph: bool) -> str | None:
    """Why ``runtime`` cannot take ``artifact`` so, with the cure; None when it can."""
    name = artifact.path.name
    for_onnx, is_onnx = runtime in ("onnxruntime", "openvino"), artifact.format == "onnx"
    reasons = (
        (runtime == "pytorch", f"{name} is no checkpoint: pytorch runs checkpoints only."),
        (for_onnx and not is_onnx, f"{name} is a {artifact.format} engine: {runtime} runs ONNX files only."),
        (for_onnx and cuda_graph, f"{runtime} is not run with CUDA graphs here: use the checkpoint or a TensorRT engine."),
        (
            runtime == "openvino" and device == "cuda",
            "openvino computes on the CPU here: use --device cpu, or --engine onnxruntime for CUDA.",
        ),
        (
            not for_onnx and runtime != artifact.format,
            f"{name} is a {artifact.format} file, not one of {runtime}: build it with --runtime {runtime}.",
        ),
        (not for_onnx and device == "cpu", f"{runtime} runs on NVIDIA GPUs only: use the ONNX file on the CPU."),
    )
    return next((reason for is_so, reason in reasons if is_so), None)


def _check_precision(
    asked: Precision | Literal["auto"], computes: str, artifact: Artifact, runtime: Runtime, device: Device
) -> None:
    if asked not in ("auto", computes):
        raise EngineUnavailable(
            f"{runtime} computes {artifact.path.name} in {computes} on the {device}: leave the precision out, or use a file or "
            f"a runtime that computes in {asked}."
        )


def choose_runtime(artifact: Artifact, device: Device | Literal["auto"]) -> Runtime:
    """What ``auto`` means for ``artifact`` on this machine."""
    if artifact.format != "onnx":
        return artifact.format
    if device == "cuda" or (device == "auto" and onnxruntime_has_cuda()):
        return "onnxruntime"
    return "openvino" if find_spec("openvino") else "onnxruntime"


def onnxruntime_has_cuda() -> bool:
    """Whether ONNX Runtime is built for CUDA and a GPU can be used here."""
    from engines.runtimes.cuda import open_cuda

    if not find_spec("onnxruntime"):
        return False
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return False
    try:
        open_cuda()
    except EngineUnavailable:
        return False
    return True


def _open_checkpoint(
    path: Path, device: Device | Literal["auto"], precision: Precision | Literal["auto"], *, cuda_graph: bool
) -> Engine:
    if not find_spec("torch"):
        raise EngineUnavailable(
            f"{path.name} is a checkpoint and torch is not installed: pip install 'mimo-deblur[torch]', or use an ONNX file."
        )
    import torch

    from engines.runtimes.pytorch import PyTorchEngine
    from mimo.networks.checkpoint import load_checkpoint

    chosen: Device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    compute: Precision = "fp32" if precision == "auto" else precision
    return PyTorchEngine(load_checkpoint(path), chosen, compute, cuda_graph=cuda_graph)
