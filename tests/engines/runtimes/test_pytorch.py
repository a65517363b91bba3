"""PyTorch's ways, as far as they can be seen without a GPU: what is asked of torch, and what the rows are called."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import engines.runtimes.pytorch
from engines.runtimes.base import runtime_errors
from engines.runtimes.pytorch import PyTorchEngine
from engines.runtimes.table import Opening, runtime_info
from engines.verification import TOLERANCES, compare_images
from mimo.errors import EngineError
from mimo.networks.checkpoint import load_checkpoint


def noise(*shape: int) -> Any:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def test_every_shape_is_compiled_for_itself_and_forgotten_with_the_engine(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    forgotten: list[bool] = []

    def compile_(network: torch.nn.Module, **options: Any) -> torch.nn.Module:
        asked.append(options)
        return network

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(torch._dynamo, "reset", lambda: forgotten.append(True))
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", False)
    with PyTorchEngine(load_checkpoint(tiny_checkpoint), compiled="max-autotune-no-cudagraphs") as engine:
        assert engine.name == "pytorch cpu fp32 (compiled max-autotune-no-cudagraphs)"
        assert engine.specialises
        assert torch._dynamo.config.fail_on_recompile_limit_hit
    engine.close()
    assert asked == [{"dynamic": False, "mode": "max-autotune-no-cudagraphs"}]
    assert forgotten == [True]


def test_tf32_is_a_precision_of_its_own(tiny_checkpoint: Path) -> None:
    checkpoint = load_checkpoint(tiny_checkpoint)
    with PyTorchEngine(checkpoint, tf32=True) as engine:
        assert (engine.compute, engine.name) == ("tf32", "pytorch cpu tf32")
    assert TOLERANCES["tf32"] == TOLERANCES["fp16"]
    with pytest.raises(ValueError, match="tf32"):
        PyTorchEngine(checkpoint, compute="fp16", tf32=True)


@pytest.mark.parametrize("autotuned", [False, True])
def test_cudnn_tries_its_algorithms_only_in_the_way_that_says_so(tiny_checkpoint: Path, autotuned: bool) -> None:
    with PyTorchEngine(load_checkpoint(tiny_checkpoint), autotuned=autotuned) as engine:
        seen: list[bool] = []
        engine._network.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.benchmark))
        engine(noise(1, 3, 16, 16))
        assert seen == [autotuned]
        assert ("cuDNN benchmark" in engine.name) == autotuned


def test_the_lean_form_in_half_precision_agrees_with_float32_as_written(tiny_checkpoint: Path) -> None:
    """The arithmetic that a checkpoint gets on CUDA by default, on the CPU."""
    checkpoint, images = load_checkpoint(tiny_checkpoint), noise(2, 3, 32, 48)
    with PyTorchEngine(checkpoint) as plain, PyTorchEngine(checkpoint, compute="fp16", lean=True, channels_last=True) as lean:
        assert type(lean._network) is not type(plain._network)
        assert compare_images(plain(images), lean(images), TOLERANCES["fp16"])


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_a_checkpoint_on_cuda_runs_fast_unless_float32_is_asked_for(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    monkeypatch.setattr(engines.runtimes.pytorch, "PyTorchEngine", lambda _, *given, **named: asked.append((given, named)))
    runtime_info("pytorch").open(Opening(tiny_checkpoint, None, "cuda", precision))
    ((device, compute), named) = asked[0]
    assert (device, compute) == ("cuda", "fp16" if precision == "auto" else "fp32")
    fast = {"lean", "channels_last", "cuda_graph"}
    assert {name for name, value in named.items() if value is True} == (fast if precision == "auto" else set())


class Graph:
    """Plays a captured graph on the CPU: replaying it doubles what is in the tensor that it was captured with."""

    def __init__(self, given: torch.Tensor) -> None:
        self.given, self.result = given, torch.empty_like(given)

    def replay(self) -> None:
        self.result.copy_(2 * self.given)


def test_a_graph_is_captured_once_a_shape_and_reads_every_new_input(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured: list[tuple[int, ...]] = []

    def capture(self: PyTorchEngine, tensor: torch.Tensor) -> Any:
        captured.append(tuple(tensor.shape))
        graph = Graph(tensor.clone())
        self._captured = (graph, graph.given, graph.result)
        return graph.replay

    monkeypatch.setattr(PyTorchEngine, "_capture", capture)
    with PyTorchEngine(load_checkpoint(tiny_checkpoint)) as engine:
        engine._cuda_graph = True
        for shape in ((1, 3, 16, 16), (1, 3, 16, 16), (2, 3, 16, 32), (1, 3, 16, 16)):
            for factor in (1.0, 0.5):
                images = (noise(*shape) * factor).astype(np.float32)
                np.testing.assert_array_equal(engine(images), 2 * images)
    assert captured == [(1, 3, 16, 16), (2, 3, 16, 32), (1, 3, 16, 16)]


def test_memory_that_ran_out_is_not_held_by_the_error() -> None:
    class Large:
        pass

    held: list[weakref.ref[Large]] = []

    def allocate() -> None:
        large = Large()
        held.append(weakref.ref(large))
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(EngineError) as error, runtime_errors("it"):
        allocate()
    gc.collect()
    assert error.value is not None
    assert held[0]() is None
