"""What mimo verify found out before: its reports, read beside what is measured."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.reports import Psnr, Verified
from engines.verification import PYTORCH
from mimo.artifact import Artifact, verification_of
from mimo.bundled import PHOTOGRAPHS
from mimo.files import sha256_of
from mimo.kinds import kind_of


def checked_as(path: Path, sha256: str, engine: str, artifact: Artifact | None = None) -> tuple[Verified, Psnr | None]:
    """``verified``, ``as adopted``, ``FAILED`` or ``UNVERIFIED``, and the PSNR found then, from the reports of mimo verify.

    A report counts for the bytes with this hash, for what the sidecar of ``artifact`` said then and for the checkpoint that
    it is said to come from; and, where it was made with the bundled pictures, for those. A checkpoint has no sidecar
    (``artifact`` is None), and its own PSNR stands in the reports of what was made from it, in the same folder or below the
    current one.
    """
    if kind_of(path) == "checkpoint":
        for report in sorted(Path.cwd().glob("*.verification.json")):
            for entry in _entries(report):
                if entry.get("against_sha256") == sha256 and (quality := entry.get("quality")):
                    return "UNVERIFIED", _quality(quality, "reference")
        return "UNVERIFIED", None
    found = [
        entry for entry in _entries(verification_of(path)) if (entry.get("sha256"), entry.get("engine")) == (sha256, engine)
    ]
    if artifact is not None:
        found = [entry for entry in found if _is_of(entry, artifact)]
    if not found:
        return "UNVERIFIED", None
    right: Verified = "verified" if found[0].get("reference", PYTORCH) == PYTORCH else "as adopted"
    said: dict[str, Verified] = {"passed": right, "failed": "FAILED"}
    status = said.get(found[0].get("status", ""), "UNVERIFIED")
    quality = found[0].get("quality")
    return status, _quality(quality, "candidate") if quality else None


def _is_of(entry: Mapping[str, Any], artifact: Artifact) -> bool:
    told = (entry.get("lineage_sha256"), entry.get("against_sha256"))
    pictures = entry.get("photographs")
    if told != (artifact.lineage_sha256, artifact.checkpoint_sha256) or not isinstance(pictures, dict):
        return False
    bundled = {path.name: path for path in (PHOTOGRAPHS / "blur").iterdir()}
    return pictures.keys() != bundled.keys() or all(sha256_of(bundled[name]) == pictures[name] for name in bundled)


def _quality(found: Mapping[str, Any], which: str) -> Psnr | None:
    value = found.get(which)
    if not isinstance(value, float) or not math.isfinite(value):
        return None
    return Psnr(decibel=value, source=f"{found.get('pictures')} pairs, mimo verify")


def _entries(report: Path) -> list[dict[str, Any]]:
    """The entries of a verification report; none when it is missing or damaged, which makes nothing verified."""
    try:
        entries = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
