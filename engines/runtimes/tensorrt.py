"""TensorRT and TensorRT-RTX plans on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self, cast

import numpy as np

from engines.runtimes.base import Device, Images, Runtime, check_images
from engines.runtimes.cuda import Bindings, open_cuda
from engines.runtimes.tensorrt_api import Messages, load_tensorrt
from mimo.artifact import INPUT, OUTPUT, Artifact
from mimo.errors import EngineError, EngineUnavailable
from mimo.files import write_bytes
from mimo.spec import Shape


class TensorRTEngine:
    """A plan file on the first GPU. See :class:`~engines.runtimes.base.Engine`.

    Activation memory is allocated for the shape at hand, not for the largest of the profile. TensorRT-RTX compiles its
    kernels on the device: ``eager`` specialises them for each new shape at once (needed while measuring: lazily, what is
    timed changes half-way), and they are kept in ``<engine>.cache``, which is rebuilt when stale. ``cuda_graph`` lets
    TensorRT-RTX capture and replay the whole network. Raises :class:`EngineUnavailable` without a GPU or the runtime.
    """

    device: Device = "cuda"

    def __init__(
        self,
        artifact: Artifact,
        *,
        eager: bool = True,
        cuda_graph: bool = False,
        bindings: Bindings | None = None,
        trt: ModuleType | None = None,
    ) -> None:
        if artifact.format == "onnx":
            raise EngineUnavailable(
                f"{artifact.path.name} is an ONNX file: build an engine from it first with mimo build-engine."
            )
        self.runtime: Runtime = cast("Runtime", artifact.format)
        self.compute = artifact.precision
        self.name = f"{artifact.format} cuda {artifact.precision}{' (CUDA graph)' if cuda_graph else ''}"
        self.size_multiple = artifact.spec.size_multiple
        self.context = artifact.spec.context
        self.shapes = artifact.shapes
        self._dtype = np.dtype(artifact.io)
        self._trt = trt or load_tensorrt(artifact.format)
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

    @property
    def memory_bytes(self) -> int | None:
        return sum(capacity for _, capacity in self._buffers.values()) or None

    def __call__(self, images: Images) -> Images:
        shape = self._bind(images)
        result = np.empty(shape.nchw, self._dtype)
        pointer, _ = self._buffers[OUTPUT]
        self._cuda.fill(pointer, 0xFF, result.nbytes, self._stream)  # all ones is NaN in either type
        self._enqueue()
        self._cuda.download(result, pointer, self._stream)
        self.synchronize()
        return result.astype(np.float32, copy=False)

    def launcher(self, images: Images) -> Callable[[], None]:
        self._bind(images)
        self.synchronize()
        return self._enqueue

    def synchronize(self) -> None:
        self._cuda.synchronize(self._stream)

    def device_seconds(self, launch: Callable[[], None]) -> float | None:
        return self._cuda.time(self._stream, launch)

    def close(self) -> None:
        self.synchronize()
        self._save_cache()
        del self._context, self._engine, self._runtime
        for pointer, _ in self._buffers.values():
            self._cuda.free(pointer)
        self._buffers.clear()
        self._cuda.destroy_stream(self._stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

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
            write_bytes(Path(self._cache_path), content)

    def _bind(self, images: Images) -> Shape:
        """Make context and buffers ready for the shape of ``images`` and enqueue their upload."""
        shape = check_images(self, images)
        source = np.ascontiguousarray(images, self._dtype)
        if shape != self._bound:
            if not self._context.set_input_shape(INPUT, shape.nchw):
                raise EngineError(self._messages.explain(f"{self.name} refused {shape}"))
            scratch = int(self._context.update_device_memory_size_for_shapes())
            for name, size in ((INPUT, source.nbytes), (OUTPUT, source.nbytes), ("scratch", scratch)):
                pointer = self._buffer(name, max(size, 1))
                if name == "scratch":
                    self._context.set_device_memory(pointer, scratch)
                else:
                    self._context.set_tensor_address(name, pointer)
            self._bound = shape
        self._cuda.upload(self._buffers[INPUT][0], source, self._stream)
        # The copy reads pageable memory that goes when this returns.
        self._cuda.synchronize(self._stream)
        return shape

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

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream):
            raise EngineError(self._messages.explain(f"{self.name} failed at {self._bound}"))
