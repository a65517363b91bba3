"""TensorRT and TensorRT-RTX plans on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from engines.runtimes.base import Device, Engine
from engines.runtimes.cuda import Bindings, open_cuda
from engines.runtimes.table import TensorRT
from engines.runtimes.tensorrt_api import Messages, load_tensorrt
from mimo.artifact import INPUT, OUTPUT, Artifact
from mimo.errors import EngineError, EngineUnavailable, OutputError
from mimo.files import write_bytes
from mimo.formats import format_info
from mimo.spec import Shape
from mimo.terminal import remark

_unwritable: set[Path] = set()
"""Caches of which it was said that they cannot be written."""


class TensorRTEngine(Engine):
    """A plan file on the first GPU. See :class:`~engines.runtimes.base.Engine`.

    Activation memory is allocated for the shape at hand, not for the largest of the profile. TensorRT-RTX compiles its
    kernels on the device: ``eager`` specialises them for each new shape at once (needed while measuring: lazily, what is
    timed changes half-way), and they are kept in ``<engine>.cache``, which is rebuilt when stale; where it cannot be written,
    that is said once. ``cuda_graph`` lets
    TensorRT-RTX capture and replay the whole network. Raises :class:`EngineUnavailable` without a GPU or the runtime.
    """

    device: Device = "cuda"

    def __init__(
        self,
        artifact: Artifact,
        *,
        eager: bool = False,
        cuda_graph: bool = False,
        bindings: Bindings | None = None,
        trt: ModuleType | None = None,
    ) -> None:
        if artifact.format not in get_args(TensorRT):
            raise EngineUnavailable(
                f"{artifact.path.name} is {format_info(artifact.format).title}: build an engine first with mimo build-engine."
            )
        self.runtime = cast("TensorRT", artifact.format)
        self.compute = artifact.precision
        self.name = f"{artifact.format} cuda {artifact.precision}{' (CUDA graph)' if cuda_graph else ''}"
        self.size_multiple = artifact.spec.size_multiple
        self.context = artifact.spec.context
        self.shapes = artifact.shapes
        self.dtype = np.dtype(artifact.io)
        self._trt = trt or load_tensorrt(self.runtime)
        self._cuda = open_cuda(bindings)
        self._messages = Messages(self._trt)
        self._runtime = self._trt.Runtime(self._messages.logger)
        self._engine = self._runtime.deserialize_cuda_engine(artifact.path.read_bytes())
        if self._engine is None:
            raise EngineError(self._messages.explain(f"{artifact.path.name} could not be loaded"))
        self._cache_path = artifact.path.with_name(artifact.path.name + ".cache")
        self._cache: Any = None
        self._context = self._create_context(eager, cuda_graph)
        if self._context is None:
            raise EngineError(self._messages.explain(f"{artifact.path.name} could not be started"))
        self._stream = self._cuda.create_stream()
        self._buffers: dict[str, tuple[int, int]] = {}
        self._bound: Shape | None = None

    def _run(self, source: NDArray[Any], result: NDArray[Any]) -> None:
        self._bind(source)
        pointer, _ = self._buffers[OUTPUT]
        self._cuda.fill(pointer, 0xFF, result.nbytes, self._stream)  # all ones is NaN in either type
        self._enqueue()
        self._cuda.download(result, pointer, self._stream)
        self.synchronize()

    def _launcher(self, source: NDArray[Any]) -> Callable[[], None]:
        self._bind(source)
        self.synchronize()
        return self._enqueue

    def synchronize(self) -> None:
        self._cuda.synchronize(self._stream)

    def device_seconds(self, launch: Callable[[], None]) -> float | None:
        return self._cuda.time(self._stream, launch)

    def close(self) -> None:
        if self._engine is None:
            return
        try:
            self.synchronize()
            self._save_cache()
        finally:  # a device that has failed refuses to synchronise; what is ours is given back all the same
            self._context = self._engine = self._runtime = self._cache = None
            self._release()
            self._cuda.destroy_stream(self._stream)

    def _create_context(self, eager: bool, cuda_graph: bool) -> Any:
        trt = self._trt
        on_demand = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self.runtime == "tensorrt":
            return self._engine.create_execution_context(on_demand)
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(on_demand)
        strategy = trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = strategy.EAGER if eager else strategy.LAZY
        if cuda_graph:
            config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._cache = config.create_runtime_cache()
        if self._cache_path.is_file() and not self._cache.deserialize(self._cache_path.read_bytes()):
            # Made by another version or for another GPU: start with an empty one, which replaces it.
            self._cache = config.create_runtime_cache()
        config.set_runtime_cache(self._cache)
        return self._engine.create_execution_context(config)

    def _save_cache(self) -> None:
        if self._cache is None or (serialized := self._cache.serialize()) is None:
            return
        content = bytes(serialized)
        if content and not (self._cache_path.is_file() and self._cache_path.read_bytes() == content):
            try:
                write_bytes(self._cache_path, content)
            except OutputError as error:  # the results do not depend on it
                if self._cache_path not in _unwritable:
                    _unwritable.add(self._cache_path)
                    remark(f"the kernels compiled for this GPU are not kept, and are compiled anew each time: {error}")

    def _bind(self, source: NDArray[Any]) -> None:
        """Make context and buffers ready for the shape of ``source`` and upload it.

        On any failure nothing is bound, so the next call begins anew, whatever its shape.
        """
        batch, _, height, width = source.shape
        shape = Shape(batch, height, width)
        if shape != self._bound:
            self._bound = None
            try:
                self._prepare(shape, source.nbytes)
            except BaseException:
                self._release()  # pointers that the context was given may be gone: none of them is used again
                raise
            self._bound = shape
        self._cuda.upload(self._buffers[INPUT][0], source, self._stream)
        # The copy reads pageable memory that goes when this returns.
        self._cuda.synchronize(self._stream)

    def _prepare(self, shape: Shape, size: int) -> None:
        if not self._context.set_input_shape(INPUT, shape.nchw):
            raise EngineError(self._messages.explain(f"{self.name} refused {shape}"))
        # It answers 0 both for "none" and for a question that failed; then the size for any shape is the safe one.
        scratch = int(self._context.update_device_memory_size_for_shapes()) or int(self._engine.device_memory_size_v2)
        for name, wanted in ((INPUT, size), (OUTPUT, size), ("scratch", scratch)):
            pointer = self._buffer(name, max(wanted, 1))
            if name == "scratch":
                self._context.set_device_memory(pointer, scratch)
            elif not self._context.set_tensor_address(name, pointer):
                raise EngineError(self._messages.explain(f"{self.name} has no tensor {name}"))
        self.memory_bytes = sum(capacity for _, capacity in self._buffers.values())

    def _buffer(self, name: str, size: int) -> int:
        pointer, capacity = self._buffers.get(name, (0, 0))
        if size > capacity:
            if pointer:
                self.synchronize()
                del self._buffers[name]
                self._cuda.free(pointer)
            pointer = self._cuda.allocate(size)
            self._buffers[name] = (pointer, size)
        return pointer

    def _release(self) -> None:
        self._bound = None
        buffers, self._buffers = self._buffers, {}
        for pointer, _ in buffers.values():
            self._cuda.free(pointer)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream):
            raise EngineError(self._messages.explain(f"{self.name} failed at {self._bound}"))
