"""A worker that does what its orders' strength says: what a real one does too rarely, or takes too long for."""

from __future__ import annotations

import json
import os
import time
from multiprocessing.connection import Connection
from typing import Any

from engines.serving.settings import Opened

SLOW, STUCK, DEADLY, PLAIN = 0.25, 0.5, 0.75, 1.0
"""A minute of small tiles; a tile that never ends; the end of the process; the photograph itself, at once."""


def acting_worker(pipe: Connection, opened: Opened) -> None:
    """In place of ``run_worker``."""

    def say(**message: Any) -> None:
        pipe.send_bytes(json.dumps(message).encode())

    say(kind="ready", engine={"name": "acting"})
    try:
        while True:
            order = json.loads(pipe.recv_bytes())
            if order["kind"] != "photograph":
                continue
            data = pipe.recv_bytes()
            match order["order"]["strength"]:
                case 0.25:
                    if _is_given_up(pipe, say):
                        say(kind="given up")
                        continue
                case 0.5:
                    time.sleep(600)
                case 0.75:
                    os._exit(3)
            say(kind="done", seconds={"decode": 0.0, "inference": 0.0, "encode": 0.0}, notes=[])
            pipe.send_bytes(data)
    except (EOFError, OSError):
        os._exit(0)


def _is_given_up(pipe: Connection, say: Any) -> bool:
    for tile in range(600):
        say(kind="step", tile=tile, tiles=600)
        if pipe.poll(0.1):
            pipe.recv_bytes()
            return True
    return False
