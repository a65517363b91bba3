"""A model on a Triton server, over gRPC or HTTP: as the other runtimes, and with what the server says of its own times.

On this machine's loopback pictures go through system shared memory, where the server can open it; the engine's name says
whether they do.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.shared_memory import SharedMemory
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from engines.runtimes.base import Device, Engine, Runtime, brief
from mimo.artifact import INPUT, OUTPUT, Artifact, artifact_from
from mimo.errors import ArtifactError, EngineError, EngineUnavailable, MimoError
from mimo.installing import install
from mimo.served import Protocol, ServedModel

ANSWER_SECONDS = 10.0
"""For what needs no computing."""
COUNTED_SECONDS = 1.0
"""How long to wait until a server has counted what it answered."""
RESTORE_SECONDS = 600.0
"""For one batch, its time in the server's queue included."""

_TYPES = {"float32": "FP32", "float16": "FP16"}
_PREFIX = "mimo."
_COUNTERS = {"success": "requests", "queue": "queue", "compute_input": "input", "compute_infer": "inference"}
_COUNTERS |= {"compute_output": "output"}


@dataclass(frozen=True)
class Description:
    """What a server says of a model that ``mimo export --to triton`` made."""

    artifact: Artifact
    """Of the file that the server runs, by its configuration; the path is the model's URL."""
    device: Device
    compute: str
    """The precision that the arithmetic runs in."""


def describe(model: ServedModel) -> Description:
    """Ask the server. Raises :class:`EngineUnavailable` without a server, a model or a client, :class:`ArtifactError` for a
    model that is not of ours or takes other tensors than its lineage says, :class:`EngineError` for any other failure.
    """
    server = _Server(model)
    try:
        return server.describe()
    finally:
        server.close()


class TritonEngine(Engine):
    """``model``, which may be on another machine. See :class:`~engines.runtimes.base.Engine`.

    ``seconds`` is how long one batch may take before it counts as failed. ``shared_memory``: None takes it on loopback where
    the server can open it; True raises :class:`EngineUnavailable` where it cannot. Raises as :func:`describe` does.
    """

    runtime: Runtime = "triton"

    def __init__(self, model: ServedModel, *, seconds: float = RESTORE_SECONDS, shared_memory: bool | None = None) -> None:
        self._server = _Server(model, seconds)
        self._regions: dict[str, _Region] = {}
        try:
            found = self._server.describe()
            self._counted_before = self._server.counters()["server_requests"]
            self._shared = model.is_local if shared_memory is None else shared_memory
            if self._shared:
                try:
                    self._region(INPUT, 1)
                except EngineError as error:
                    if shared_memory:
                        raise EngineUnavailable(f"{model} cannot share memory with this process: {error}") from error
                    self._shared = False  # a server in a container of its own; the name says it
        except BaseException:
            self.close()
            raise
        self._answered = 0
        self.device, self.compute = found.device, found.compute
        self.size_multiple = found.artifact.spec.size_multiple
        self.context = found.artifact.spec.context
        self.shapes = found.artifact.shapes
        self.dtype = np.dtype(found.artifact.io)
        self.name = f"triton {model.protocol}{' shm' if self._shared else ''} {self.device} {self.compute}"

    def _run(self, source: NDArray[Any], result: NDArray[Any]) -> None:
        answer = self._launcher(source)()
        if self._shared:
            self._regions[OUTPUT].read(result)
            return
        found = answer.as_numpy(OUTPUT)
        if found is None or found.shape != result.shape or found.dtype != result.dtype:
            what = "nothing" if found is None else f"{found.dtype} {found.shape}"
            raise EngineError(f"{self.name} sent {what} for {result.dtype} {result.shape}: see what the server's log says.")
        result[...] = found

    def _launcher(self, source: NDArray[Any]) -> Callable[[], Any]:
        client = self._server.module
        given = client.InferInput(INPUT, list(source.shape), _TYPES[source.dtype.name])
        wanted = client.InferRequestedOutput(OUTPUT)
        if self._shared:
            self._region(INPUT, source.nbytes).write(source)
            self._region(OUTPUT, source.nbytes).write(np.full(source.shape, np.nan, self.dtype))
            given.set_shared_memory(self._regions[INPUT].name, source.nbytes)
            wanted.set_shared_memory(self._regions[OUTPUT].name, source.nbytes)
        else:
            given.set_data_from_numpy(source)

        def infer() -> Any:
            answer = self._server.infer(given, wanted)
            self._answered += 1
            return answer

        return infer

    def counters(self) -> Mapping[str, int]:
        """Requests that the server has answered since it loaded the model, whoever sent them, and the nanoseconds it spent
        with them in the queue, on their input, their inference and their output.
        """
        end = time.monotonic() + COUNTED_SECONDS
        while True:
            found = self._server.counters()
            # It counts a request a moment after it has answered it.
            if found["server_requests"] >= self._counted_before + self._answered or time.monotonic() > end:
                return found
            time.sleep(0.001)

    def close(self) -> None:
        regions, self._regions = self._regions, {}
        for region in regions.values():
            region.close()
        self._server.close()

    def _region(self, tensor: str, size: int) -> _Region:
        """Memory of at least ``size`` bytes that the server has open too."""
        region = self._regions.get(tensor)
        if region is None or region.size < size:
            if region is not None:
                del self._regions[tensor]
                region.close()
            region = self._regions[tensor] = _Region(self._server, size)
        return region


class _Region:
    """System shared memory that a server knows under :attr:`name`, until it is closed."""

    def __init__(self, server: _Server, size: int) -> None:
        self._server, self.size = server, size
        self._memory = SharedMemory(create=True, size=size)
        self.name = f"mimo-{self._memory.name}"
        try:
            server.ask("register_system_shared_memory", self.name, f"/{self._memory.name}", size)
        except BaseException:
            self._release()
            raise

    def write(self, values: NDArray[Any]) -> None:
        np.ndarray(values.shape, values.dtype, self._memory.buf)[...] = values

    def read(self, into: NDArray[Any]) -> None:
        into[...] = np.ndarray(into.shape, into.dtype, self._memory.buf)

    def close(self) -> None:
        with suppress(MimoError):  # a server that is gone holds nothing
            self._server.ask("unregister_system_shared_memory", self.name)
        self._release()

    def _release(self) -> None:
        self._memory.close()
        self._memory.unlink()


class _Server:
    """One connection, for one model. What the client raises comes out as an error of ours."""

    def __init__(self, model: ServedModel, seconds: float = RESTORE_SECONDS) -> None:
        self._model, self._seconds = model, seconds
        self.module = _client_module(model.protocol)
        self._clients = threading.local()

    @property
    def _client(self) -> Any:
        """The client of the calling thread: that for HTTP rests on gevent, whose connections no other thread may use."""
        client = getattr(self._clients, "client", None)
        if client is None:
            limits: dict[str, Any] = {}
            if self._model.protocol == "http":
                limits = {"connection_timeout": ANSWER_SECONDS, "network_timeout": self._seconds}
            client = self._clients.client = self.module.InferenceServerClient(self._model.address, **limits)
        return client

    def ask(self, question: str, *arguments: Any, **further: Any) -> Any:
        """The answer to one of the client's calls, as JSON where it has one."""
        if self._model.protocol == "grpc":
            further["client_timeout"] = ANSWER_SECONDS
            if question.startswith("get_"):
                further["as_json"] = True
        return self._guarded(lambda: getattr(self._client, question)(*arguments, **further), ANSWER_SECONDS)

    def infer(self, given: Any, wanted: Any) -> Any:
        further: dict[str, Any] = {"client_timeout": self._seconds} if self._model.protocol == "grpc" else {}
        name, version = self._model.name, self._model.version
        call = self._client.infer
        try:
            return self._guarded(lambda: call(name, [given], version, outputs=[wanted], **further), self._seconds)
        except EngineUnavailable as error:  # it was there before
            raise EngineError(str(error)) from error

    def describe(self) -> Description:
        model = self._model
        config = self.ask("get_model_config", model.name, model.version)
        config = config.get("config", config)  # gRPC wraps it
        told = {key: value.get("string_value", "") for key, value in config.get("parameters", {}).items()}
        missing = [key for key in ("lineage", "sha256", "compute") if not told.get(_PREFIX + key)]
        if missing:
            raise ArtifactError(
                f"{model} does not say where it comes from ({_PREFIX}{missing[0]} is not in its configuration): "
                "make it with mimo export --to triton."
            )
        lineage, sha256, compute = (told[_PREFIX + key] for key in ("lineage", "sha256", "compute"))
        artifact = artifact_from(model, sha256, lineage, f"the configuration of {model}")
        if not re.fullmatch("[0-9a-f]{64}", sha256) or compute not in ("fp32", "fp16", "bf16", "mixed"):
            raise ArtifactError(f"the configuration of {model} is damaged: make it again with mimo export --to triton.")
        self._check_tensors(artifact)
        kinds = {group.get("kind") for group in config.get("instance_group", [])}
        return Description(artifact, "cuda" if "KIND_GPU" in kinds else "cpu", compute)

    def counters(self) -> dict[str, int]:
        answer = self.ask("get_inference_statistics", self._model.name, self._model.version)
        totals = dict.fromkeys(_COUNTERS.values(), 0)
        for version in answer["model_stats"]:
            for key, name in _COUNTERS.items():
                spent = version.get("inference_stats", {}).get(key, {})
                totals[name] += int(spent.get("count" if name == "requests" else "ns", 0))
        return {f"server_{name}{'' if name == 'requests' else '_ns'}": total for name, total in totals.items()}

    def close(self) -> None:
        """Close the calling thread's connection; those of other threads go with them."""
        client, self._clients = getattr(self._clients, "client", None), threading.local()
        if client is not None:
            client.close()

    def _check_tensors(self, artifact: Artifact) -> None:
        model = self._model
        metadata = self.ask("get_model_metadata", model.name, model.version)
        for ends, name in (("inputs", INPUT), ("outputs", OUTPUT)):
            found = {one["name"]: (one["datatype"], len(one.get("shape", ()))) for one in metadata.get(ends, [])}
            wanted = (_TYPES[artifact.io], 4)
            if found.get(name) != wanted or (ends == "inputs" and len(found) > 1):
                said = ", ".join(f"{key} {kind} of {rank} dimensions" for key, (kind, rank) in found.items()) or "none"
                raise ArtifactError(
                    f"{model} has the {ends} {said} instead of {name} {wanted[0]} of 4 dimensions: make it again with "
                    "mimo export --to triton."
                )

    def _guarded(self, call: Callable[[], Any], seconds: float) -> Any:
        try:
            return call()
        except Exception as error:  # of the client's libraries: their exceptions share no base
            raise self._error(error, seconds) from error

    def _error(self, error: Exception, seconds: float) -> MimoError:
        model, said = self._model, brief(error)
        status = str(cast(Any, error).status()) if hasattr(error, "status") else ""
        if isinstance(error, TimeoutError) or "DEADLINE_EXCEEDED" in status or "Deadline" in said or "timed out" in said:
            return EngineError(f"{model} did not answer within {seconds:g} s: see whether the server is busy or stands still.")
        if isinstance(error, OSError) or "UNAVAILABLE" in status:
            return EngineUnavailable(f"no Triton server answers {model} ({said}): start it, or correct the address.")
        if not status:
            other = "triton+http" if model.protocol == "grpc" else "triton"
            return EngineUnavailable(
                f"what answers at {model.address} does not speak Triton's {model.protocol} ({said}): name the port for it, or "
                f"write {other}://."
            )
        if "unknown model" in said or "NOT_FOUND" in status:
            return EngineUnavailable(f"{model} is not there{self._others()}: correct the name, or load it ({said}).")
        if "not at ready state" in said or "is not ready" in said:
            return EngineUnavailable(f"{model} is not ready ({said}): see why in the server's log.")
        return EngineError(f"{model} failed: {said}")

    def _others(self) -> str:
        """The models that the server has, in half a sentence; nothing where it does not say."""
        further: dict[str, Any] = {"as_json": True, "client_timeout": ANSWER_SECONDS} if self._model.protocol == "grpc" else {}
        try:
            answer = self._client.get_model_repository_index(**further)
        except Exception:  # the error under way is the one to report
            return ""
        names = sorted({one["name"] for one in (answer.get("models", []) if isinstance(answer, dict) else answer)})
        return f", but {', '.join(names[:10])}" if names else ", and no other model either"


def _client_module(protocol: Protocol) -> Any:
    try:
        return import_module(f"tritonclient.{protocol}")
    except (ImportError, RuntimeError) as error:  # its own for a part that is not installed
        raise EngineUnavailable(f"tritonclient for {protocol} is not installed: {install('triton')}.") from error
