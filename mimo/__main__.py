"""``python -m mimo`` and the ``mimo`` command: our command line, whatever else is called ``cli`` where it is started.

The project owns the top-level names ``cli``, ``engines``, ``export`` and ``benchmarks``. A file of the user's in the current
directory must not stand in for them, and another package may have overwritten them: both are looked at before anything of
them runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parent.parent
NAMES = ("cli.py", "engines/__init__.py", "export/__init__.py", "benchmarks/__init__.py")
"""What lies beside ``mimo``; each says in its docstring that it is part of it."""
MARK = b"Part of mimo."


def strangers(root: Path) -> list[Path]:
    """Those of :data:`NAMES` under ``root`` that are missing or not ours, told by their text; nothing of them runs."""
    found = []
    for name in NAMES:
        try:
            ours = MARK in (root / name).read_bytes()
        except OSError:
            ours = False
        if not ours:
            found.append(root / name)
    return found


def main() -> NoReturn:
    """Run the command line. Exit code 2 and one sentence when a module of ours has been overwritten."""
    if bad := strangers(ROOT):
        sys.stderr.write(
            f"mimo: {', '.join(map(str, bad))} belongs to another package or is missing: install mimo-deblur again, in a "
            "virtual environment of its own.\n"
        )
        sys.exit(2)
    # Before the current directory, which python -m puts first.
    sys.path.insert(0, str(ROOT))
    from cli import main as run

    run()


if __name__ == "__main__":
    main()
