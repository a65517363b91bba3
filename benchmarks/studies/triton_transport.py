"""What carrying pictures to a Triton server and back costs: gRPC and HTTP, in messages and in system shared memory.

    python -m benchmarks.studies.triton_transport triton://localhost:8001/mimo-unet [SIZE [HTTP_URL]]

The cost is the client's time for a request less what the server says it spent in queue, input, inference and output. The
four ways take turns, so that a machine that slows down slows all of them. HTTP is asked at
port 8000 of the same host where no URL says otherwise.
"""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import ExitStack

from benchmarks.served import server_times
from engines.runtimes.triton import TritonEngine
from engines.sample_images import list_photographs, photograph_batch
from mimo.bundled import PHOTOGRAPHS
from mimo.errors import MimoError
from mimo.served import ServedModel, model_path
from mimo.spec import Shape

ROUNDS = 15


def main(url: str, size: str = "720x1280", http: str | None = None) -> None:
    """Print a line for each way: the median over the rounds, and the quickest and the slowest, in milliseconds."""
    model = model_path(url)
    if not isinstance(model, ServedModel):
        raise MimoError(f"{url} names no model on a server: write triton://HOST:PORT/MODEL.")
    host = model.address.rpartition(":")[0]
    other = model_path(http or f"triton+http://{host}/{model.name}")
    assert isinstance(other, ServedModel)
    images = photograph_batch(list_photographs(PHOTOGRAPHS), Shape.parse(size))
    spent: dict[str, list[float]] = {}
    with ExitStack() as stack:
        ways = {
            f"{one.protocol}, {'shared memory' if shared else 'messages'}": stack.enter_context(
                TritonEngine(one, shared_memory=shared)
            )
            for one in (model, other)
            for shared in (True, False)
        }
        for engine in ways.values():
            engine(images)
        for _ in range(ROUNDS):
            for way, engine in ways.items():
                before = engine.counters()
                began = time.perf_counter()
                engine(images)
                seconds = time.perf_counter() - began
                # It counts a request a moment after it has answered it.
                while (there := server_times([before, engine.counters()])) is None:
                    time.sleep(0.01)
                spent.setdefault(way, []).append(seconds - there.queue - there.compute)
    megabytes = 2 * images.nbytes / 1e6
    sys.stdout.write(f"{size}, {megabytes:.0f} MB there and back, {ROUNDS} rounds: milliseconds beside the server's own\n")
    for way, costs in spent.items():
        middle, low, high = (1e3 * value for value in (statistics.median(costs), min(costs), max(costs)))
        sys.stdout.write(f"{way:<22}{middle:8.1f}  ({low:.1f} to {high:.1f})\n")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except MimoError as error:
        sys.exit(str(error))
