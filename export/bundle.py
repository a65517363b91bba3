"""Make the ONNX files that come with the project from the weights that come with it: ``python -m export.bundle``.

Run after the weights have changed; tests/export/test_bundle.py fails until then.
"""

from __future__ import annotations

from pathlib import Path

from export.to_onnx import export_onnx
from mimo.artifact import Artifact
from mimo.bundled import GRAPHS, SHIPPED
from mimo.networks.checkpoint import load_checkpoint


def bundle(name: str, out: Path) -> Artifact:
    """Write the bundled network ``name`` to ``out`` as a compact FP32 graph. Raises what :func:`export_onnx` raises."""
    return export_onnx(load_checkpoint(SHIPPED[name]), out, compact=True)


if __name__ == "__main__":
    for name, path in GRAPHS.items():
        bundle(name, path)
