"""The hash that ties the lineage in a safetensors file to its weights. No torch here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from safetensors import deserialize

LINEAGE = "mimo.lineage"
"""The metadata key of our safetensors files; its value is a JSON object of strings."""
TIE = "tied_sha256"
"""The entry of the lineage that holds :func:`tie_of` of the weights and of the other entries."""


def tie_of(content: bytes, lineage: Mapping[str, str]) -> str:
    """The SHA-256, in hexadecimal, of all tensors in ``content``, a safetensors file, and of ``lineage`` without the tie.

    Names, element types, shapes and bytes of the tensors count, their order and the rest of the file's header do not. Raises
    :class:`safetensors.SafetensorError` for what is none.
    """
    digest = hashlib.sha256(json.dumps({key: lineage[key] for key in lineage if key != TIE}, sort_keys=True).encode())
    for name, tensor in sorted(deserialize(content), key=lambda one: one[0]):  # type: ignore[no-untyped-call]
        digest.update(json.dumps([name, str(tensor["dtype"]), list(tensor["shape"]), len(tensor["data"])]).encode())
        digest.update(tensor["data"])
    return digest.hexdigest()


def lineage_in(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """The lineage in the metadata of a safetensors file. Raises ``ValueError`` and ``RecursionError``."""
    lineage = json.loads((metadata or {}).get(LINEAGE, "{}"))
    if not isinstance(lineage, dict) or not all(isinstance(value, str) for value in lineage.values()):
        raise ValueError("its lineage is no object of strings")
    for entry in lineage.items():
        "".join(entry).encode()  # half of a surrogate pair is no text
    return lineage
