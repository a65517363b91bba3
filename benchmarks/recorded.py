"""What mimo verify found out before: its reports, read beside what is measured."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.reports import Psnr, Verified
from engines.verification import PYTORCH
from mimo.artifact import verification_of
from mimo.kinds import kind_of


def checked_as(path: Path, sha256: str, engine: str) -> tuple[Verified, Psnr | None]:
    """``verified``, ``as adopted``, ``FAILED`` or ``UNVERIFIED``, and the PSNR found then, from the reports of mimo verify.

    A checkpoint's own PSNR stands in the reports of what was made from it, in the same folder or below the current one.
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
    if not found:
        return "UNVERIFIED", None
    right: Verified = "verified" if found[0].get("reference", PYTORCH) == PYTORCH else "as adopted"
    said: dict[str, Verified] = {"passed": right, "failed": "FAILED"}
    status = said.get(found[0].get("status", ""), "UNVERIFIED")
    quality = found[0].get("quality")
    return status, _quality(quality, "candidate") if quality else None


def _quality(found: Mapping[str, Any], which: str) -> Psnr | None:
    value = found.get(which)
    if not isinstance(value, float) or not math.isfinite(value):
        return None
    return Psnr(decibel=value, source=f"{found.get('pictures')} pairs, mimo verify")


def _entries(report: Path) -> list[dict[str, Any]]:
    """The entries of a verification report; none when it is missing or damaged, which makes nothing verified."""
    try:
        entries = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
