"""Being asked to stop, politely."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopSignals:
    """Whether SIGTERM or SIGINT (Ctrl-C) came while :func:`stop_signals` listened."""

    def __init__(self, *, repeated: bool = False) -> None:
        self._repeated = repeated
        self._came = threading.Event()
        self._before: dict[signal.Signals, signal.Handlers] = {}

    def __call__(self) -> bool:
        """Whether one of them came."""
        return self._came.is_set()

    def finish_speaking(self) -> None:
        """Ignore SIGTERM from here on, for a process that is about to end with an explanation.

        When one worker of torchrun is lost it sends SIGTERM to the others, which may come in the middle of the sentence.
        """
        if self._before.pop(signal.SIGTERM, None) is not None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            # None is a handler that was not set from Python: there is no putting it back.
            before = signal.getsignal(number)
            self._before[number] = signal.SIG_DFL if before is None else before  # type: ignore[assignment]
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came.set()
        # The second one acts as it always does, unless somebody sends it on his own account.
        if not self._repeated:
            signal.signal(number, self._before[signal.Signals(number)])

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextmanager
def stop_signals(*, repeated: bool = False) -> Iterator[StopSignals]:
    """Listen for SIGTERM and SIGINT, and put back what was there before.

    ``repeated``: more than one is the same wish. A launcher passes Ctrl-C on to processes that the terminal told already,
    and ends by itself those that take too long.

    Only the main thread of a process can listen; elsewhere nothing is ever received.
    """
    signals = StopSignals(repeated=repeated)
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    signals._listen()
    try:
        yield signals
    finally:
        signals._restore()
