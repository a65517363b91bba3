"""The bytes of a checkpoint as tensors and numbers: safetensors, or what ``torch.save`` wrote. Nothing in them is run."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mimo.errors import CheckpointError
from mimo.kinds import is_safetensors
from mimo.networks.tied import TIE, lineage_in, tie_of


def read_tensors(path: Path) -> tuple[Mapping[Any, Any], dict[str, str]]:
    """What a file holds and what its metadata says of its origin.

    Raises :class:`CheckpointError` when it is missing, damaged, no mapping, a pickle that wants to run code, or safetensors
    whose weights and lineage are not those that were written together.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): check its permissions.") from error
    return _read_safetensors(path) if is_safetensors(start, path.stat().st_size) else (_read_pickle(path), {})


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            lineage = lineage_in(file.metadata())
            if TIE in lineage and tie_of(path.read_bytes(), lineage) != lineage[TIE]:
                raise CheckpointError(
                    f"{path} holds other weights than its lineage was written for, or another lineage: get the file again."
                )
            return {key: file.get_tensor(key) for key in file.keys()}, lineage  # noqa: SIM118
    except (SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({str(error)[:200]}): copy or download it again.") from error


def _read_pickle(path: Path) -> Mapping[Any, Any]:
    try:
        # The open file, not its name: torch goes by the suffix.
        with warnings.catch_warnings(), path.open("rb") as file, torch.serialization.safe_globals(_HARMLESS):
            # torch remarks on old pickle protocols; whatever matters to the user is an error of ours.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch says in prose that it refused a class or a function; a file that is no pickle at all ends here as well.
        if refused := re.search(r"[Uu]nsupported (?:global: )?GLOBAL (\S+)", str(error)):
            raise CheckpointError(
                f"{path} wants to run code while it is loaded, and was refused; nothing ran. It asks for "
                f"{refused[1][:100]}: get it as safetensors, or as a file that holds tensors and numbers only."
            ) from error
        raise CheckpointError(
            f"{path} is no checkpoint that can be read, and nothing in it ran: "
            "expected safetensors, or a file that torch.save wrote with its default protocol."
        ) from error
    except Exception as error:  # damaged bytes make torch fail in every way there is, assertions among them
        raise CheckpointError(f"{path} is damaged or no checkpoint: copy or download it again.") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict: save model.state_dict() instead.")
    return content


class _Type:
    """Stands for ``numpy.dtype`` while a pickle is read: numbers only, and no ``__setstate__`` of NumPy's is called."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[biufc]\d{1,2}", code):
            raise pickle.UnpicklingError("no type of numbers")
        self.code, self.order = code, "<"

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]


def _number(kind: object, content: object = b"") -> complex:
    """Stands for NumPy's ``scalar`` while a pickle is read: a number of Python's."""
    if not isinstance(kind, _Type) or not isinstance(content, bytes):
        raise pickle.UnpicklingError("no number")
    (value,) = np.frombuffer(content, kind.order + kind.code).tolist()
    return value  # type: ignore[no-any-return]


_HARMLESS: list[Any] = [
    _Type,
    (_Type, "numpy.dtype"),
    *((_number, f"numpy.{module}.multiarray.scalar") for module in ("core", "_core")),
    *((_Type, f"numpy.dtypes.{name}") for name in ("Float64DType", "Float32DType", "Int64DType", "Int32DType", "BoolDType")),
]
"""What may stand in a pickle beside tensors: a learning rate or a best score that is a number of NumPy's."""
