"""OpenVINO on a processor that has bfloat16, or on one that has none, whatever this one has."""

from __future__ import annotations

from typing import Any


class Processor:
    """Stands in for the module ``openvino``: the real one, but for what it says of bfloat16.

    Where bfloat16 is claimed and the real processor has none, the network is compiled in float32 and says bfloat16: every
    line of ours runs, and results are only more exact than they would be.
    """

    def __init__(self, openvino: Any, *, bf16: bool) -> None:
        self._openvino = openvino
        self._bf16 = bf16

    def __getattr__(self, name: str) -> Any:
        return getattr(self._openvino, name)

    def Core(self) -> _Core:  # noqa: N802
        """``openvino.Core()``."""
        return _Core(self._openvino.Core(), bf16=self._bf16)


class _Core:
    def __init__(self, core: Any, *, bf16: bool) -> None:
        self._core = core
        self._bf16 = bf16

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def get_property(self, device: str, name: str) -> Any:
        found = self._core.get_property(device, name)
        if name == "OPTIMIZATION_CAPABILITIES":
            return [one for one in found if one != "BF16"] + (["BF16"] if self._bf16 else [])
        return found

    def compile_model(self, model: Any, device: str, properties: dict[str, Any]) -> Any:
        has = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if properties["INFERENCE_PRECISION_HINT"] == "bf16" and not has:
            return _SaysBf16(self._core.compile_model(model, device, properties | {"INFERENCE_PRECISION_HINT": "f32"}))
        return self._core.compile_model(model, device, properties)


class _SaysBf16:
    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compiled, name)

    def get_property(self, name: str) -> Any:
        return "<Type: 'bfloat16'>" if name == "INFERENCE_PRECISION_HINT" else self._compiled.get_property(name)
