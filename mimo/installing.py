"""How to install what is missing, as a command that works for this installation: a clone, a wheel, a repository.

No package index is taken to have this project; what it needs, every index has.
"""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from shlex import quote
from typing import Any
from urllib.parse import unquote, urlsplit

NAME = "mimo-deblur"


def install(*extras: str) -> str:
    """The command that adds ``extras`` (such as ``cpu``) to this installation, to be typed in its environment."""
    wanted = ",".join(extras)
    origin = _origin()
    url = str(origin.get("url", ""))
    path = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None
    if origin.get("dir_info", {}).get("editable") and path is not None and path.is_dir():
        return "pip install -e " + quote(f"{path}[{wanted}]")
    if path is not None and path.exists():
        return "pip install " + quote(f"{path}[{wanted}]" if path.is_dir() else f"{NAME}[{wanted}] @ {url}")
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        return "pip install " + quote(f"{NAME}[{wanted}] @ {vcs['vcs']}+{url}@{vcs['commit_id']}")
    source = Path(__file__).parent.parent
    if (source / "pyproject.toml").is_file():
        return "pip install -e " + quote(f"{source}[{wanted}]")
    return " ".join(["pip install", *map(quote, _requirements(extras))])


def _origin() -> dict[str, Any]:
    """PEP 610's record of where this was installed from; empty when it came from an index or was not installed at all."""
    try:
        text = metadata.distribution(NAME).read_text("direct_url.json")
        origin = json.loads(text or "{}")
    except (metadata.PackageNotFoundError, OSError, ValueError):
        return {}
    return origin if isinstance(origin, dict) else {}


def _requirements(extras: tuple[str, ...]) -> list[str]:
    """What ``extras`` need, by name and version; an extra of this project in another is taken apart."""
    found: dict[str, None] = {}
    waiting, seen = list(extras), set(extras)
    while waiting:
        extra = waiting.pop(0)
        for entry in metadata.requires(NAME) or []:
            requirement, _, marker = entry.partition(";")
            if not re.search(rf"""extra\s*==\s*["']{re.escape(extra)}["']""", marker):
                continue
            own = re.fullmatch(rf"{NAME}\[([^]]+)\].*", requirement.strip())
            if own is None:
                found[requirement.strip().replace(" ", "")] = None
                continue
            further = [name.strip() for name in own[1].split(",")]
            waiting += [name for name in further if name not in seen]
            seen |= set(further)
    return list(found)
