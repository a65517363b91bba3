"""Whether a network survives FP16, found out without a GPU: every value it keeps is rounded to float16."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from engines.runtimes.base import Images

if TYPE_CHECKING:
    from torch import nn


def psnr_in_fp16(network: nn.Module, images: Images) -> float | None:
    """PSNR in dB (data range 1) of ``network`` with all weights and maps in float16, against itself in float32.

    None when the result holds infinity or NaN: float16 ends at 65504. Sums inside one operator stay float32, as in tensor
    cores; a runtime that fuses operators keeps fewer maps and may survive where this does not. ``network`` is left as it
    was.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    def rounded(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
            return value.half().float()
        if isinstance(value, list | tuple):
            return type(value)(rounded(one) for one in value)
        return value

    class Rounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if func._schema.is_mutable:  # what it wrote into is what goes on, not what is returned here
                result.copy_(rounded(result))
                return result
            # A view must stay one, and what it shows is rounded already.
            return result if any(one.alias_info is not None for one in func._schema.returns) else rounded(result)

    state = {name: rounded(value) for name, value in (*network.named_parameters(), *network.named_buffers())}
    with torch.no_grad():
        x = torch.from_numpy(images)
        expected = network(x)
        with Rounding():  # type: ignore[no-untyped-call]
            found = torch.func.functional_call(network, state, (rounded(x),))
    if not bool(torch.isfinite(found).all()):
        return None
    error = float(torch.mean((found - expected).double() ** 2))
    return -10 * math.log10(error) if error else math.inf
