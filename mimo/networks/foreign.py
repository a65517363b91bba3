"""Architectures that are none of the registry's and that spandrel knows, if it is installed.

spandrel (github.com/chaiNNer-org/spandrel, MIT) recognises some fifty architectures by their state dicts, as the registry
here does with its own; spandrel_extra_arches adds those whose licences restrict their use.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mimo.errors import CheckpointError
from mimo.networks.registry import SPANDREL
from mimo.spec import SMALLEST_SIDE, ModelSpec

if TYPE_CHECKING:
    from spandrel import ModelRegistry

LONGEST = 1 << 20
"""The longest side of a tensor; spandrel reads widths from them and builds before anything is compared."""

_declared: list[torch.library.Library] = []


def is_installed() -> bool:
    """Whether spandrel is."""
    return find_spec("spandrel") is not None


def recognise(state: Mapping[str, Tensor]) -> ModelSpec | None:
    """What spandrel says ``state`` is, or None where it knows no such architecture or is not installed.

    Raises :class:`CheckpointError` for an architecture that does not give back an RGB image of the size it was given.
    """
    if not is_installed() or not state or any(map(_is_odd, state.values())):
        return None
    found = _describe(state)
    if found is None:
        return None
    name = found.architecture.id
    if (found.scale, found.input_channels, found.output_channels) != (1, 3, 3):
        raise CheckpointError(
            f"this is a {name} (spandrel's), which takes {found.input_channels} channels and gives {found.output_channels} at "
            f"{found.scale} times the size: only networks from an RGB image to one of the same size are taken."
        )
    needs = found.size_requirements
    multiple = max(1, needs.multiple_of)
    if needs.minimum > SMALLEST_SIDE:
        multiple = math.ceil(needs.minimum / multiple) * multiple
    if needs.square:
        raise CheckpointError(f"this is a {name} (spandrel's), which takes square images only.")
    return ModelSpec(name.lower().replace(" ", "-"), SPANDREL, {"architecture": name}, multiple)


def _is_odd(value: Tensor) -> bool:
    """What spandrel must not see: it reads sizes and builds by them."""
    return value.is_nested or value.is_meta or value.layout != torch.strided or max(value.shape, default=0) > LONGEST


def build(state: Mapping[str, Tensor]) -> nn.Module:
    """The network behind ``state``, with these weights, in evaluation mode."""
    found = _describe(state)
    assert found is not None
    network: nn.Module = found.model
    return network.eval().requires_grad_(False).float()


def _describe(state: Mapping[str, Tensor]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        registry = _registry()
    from spandrel import ImageModelDescriptor, UnsupportedModelError

    try:
        with warnings.catch_warnings():
            # Of torch, on how spandrel's architectures are written; also where warnings are errors.
            warnings.simplefilter("ignore")
            found = registry.load(dict(state))
    except UnsupportedModelError:
        return None
    except Exception as error:  # what recognises an architecture by a few keys fails in any way on the others
        raise CheckpointError(
            f"spandrel knows these keys and cannot build the network ({type(error).__name__}: {str(error)[:150]}): "
            "download the checkpoint again."
        ) from error
    return found if isinstance(found, ImageModelDescriptor) else None


def _registry() -> ModelRegistry:
    prepare()
    import spandrel

    if find_spec("spandrel_extra_arches") and not _added:
        import spandrel_extra_arches

        _added.extend(spandrel_extra_arches.EXTRA_REGISTRY.architectures("detection"))
        spandrel.MAIN_REGISTRY.add(*_added, ignore_duplicates=True)
    return spandrel.MAIN_REGISTRY


_added: list[Any] = []


def prepare() -> None:
    """Before spandrel is imported: let torchvision be imported beside a CPU build of torch.

    pip's torchvision holds operators for CUDA builds only; beside another torch they do not load, and its import then fails
    at the shapes of two of them. spandrel needs neither: declared without an implementation, they fail when they are called.
    """
    if _declared or not find_spec("torchvision"):
        return
    _declared.append(torch.library.Library("torchvision", "FRAGMENT"))  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            _declared[0].define(schema)  # type: ignore[no-untyped-call]
