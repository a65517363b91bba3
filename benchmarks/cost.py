"""What one restoration costs a network: arithmetic and traffic, the least of all and node by node."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimo.artifact import load_onnx
from mimo.spec import Shape

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Work:
    """The least that one restoration must do.

    ``macs``: multiply-accumulates; None for a graph that multiplies in a way :func:`~mimo.onnx_stats.macs` does not count.
    ``bytes``: compulsory traffic: every weight, the input and the output once, in their own element types. A real run
    moves more: whatever it writes in between and reads again.
    """

    macs: int | None
    bytes: int
    nodes: tuple[tuple[int, int], ...] = field(default=(), compare=False)
    """Multiply-accumulates and bytes of each node, when every node reads its inputs and writes its outputs."""


def work_of_graph(path: Path, shape: Shape) -> Work:
    """The work of an ONNX file for an input of ``shape``.

    Raises :class:`~mimo.errors.ArtifactError` when it cannot be read or does not take ``shape``.
    """
    from mimo.onnx_stats import UNCOUNTED_PRODUCTS, least_bytes, macs, node_costs

    model = load_onnx(path)
    uncounted = any(node.op_type in UNCOUNTED_PRODUCTS for node in model.graph.node)
    if uncounted:
        return Work(None, least_bytes(model, shape))
    return Work(macs(model, shape), least_bytes(model, shape), node_costs(model, shape))


def work_of_module(module: nn.Module, shape: Shape) -> Work:
    """The work of a network that takes one (N,3,H,W) batch and returns a tensor or several, for an input of ``shape``.

    Traced on meta tensors: nothing is computed, ``module`` is left as it is. All outputs count, also those that
    a deployed graph leaves out.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    state = {name: value.to("meta") for name, value in (*module.named_parameters(), *module.named_buffers())}
    dtype = next((value.dtype for value in state.values() if value.is_floating_point()), torch.float32)
    # Whatever the network makes on its way must be on the meta device too.
    nodes: list[tuple[int, int]] = []
    with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter, _node_costs(nodes):
        images = torch.empty(shape.nchw, dtype=dtype)
        result: Tensor | Sequence[Tensor] = torch.func.functional_call(module, state, (images,))
    outputs = [result] if isinstance(result, torch.Tensor) else list(result)
    least = sum(value.nbytes for value in (*state.values(), images, *outputs))
    return Work(counter.get_total_flops() // 2, least, tuple(nodes))


def _node_costs(nodes: list[tuple[int, int]]) -> AbstractContextManager[object]:
    """While open, the operations that torch runs are added to ``nodes``; views, which move nothing, are not."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves
    from torch.utils.flop_counter import flop_registry

    class Nodes(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if not (func.is_view or func.namespace != "aten"):
                values = [one for one in tree_leaves((args, kwargs, out)) if isinstance(one, torch.Tensor)]
                moved = sum({id(one): one.nbytes for one in values}.values())
                count = flop_registry.get(func.overloadpacket)
                nodes.append((0 if count is None else count(*args, **(kwargs or {}), out_val=out) // 2, moved))
            return out

    modes: AbstractContextManager[object] = Nodes()  # type: ignore[no-untyped-call]
    return modes
