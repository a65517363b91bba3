"""Training: from a recipe and folders of pairs to weights, in sessions that may be interrupted anywhere.

A run is a folder: ``last.pt`` and ``best.pt`` (everything there is to continue; also checkpoints in the authors' layout),
``weights.safetensors`` (the best, to export), ``recipe.json``, ``log.jsonl``, ``validation.png`` and ``tensorboard/``.
Each is whole or not there; ``last.pt`` is written after what it speaks of, so a crash in between costs steps, never truth.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from mimo.errors import TrainingError
from mimo.installing import install
from mimo.learning.course import LAST, Course, Outcome, good
from mimo.learning.crops import Pictures
from mimo.learning.datasets import Pair, Photograph, digest, files_of, not_regular
from mimo.learning.distributed import World, is_launched, is_loss_of_worker, join
from mimo.learning.lock import locked
from mimo.learning.log import Checking, Note, Report, RunLog, tensorboard_is_installed
from mimo.learning.recipe import Recipe, Session
from mimo.learning.sources import learnt_pictures, source_of, validation_of
from mimo.learning.state import Learner, read_run
from mimo.learning.validation import check_metrics
from mimo.signals import StopSignals, stop_signals


def train(recipe: Recipe, out: Path, session: Session | None = None, report: Report = lambda event: None) -> Outcome:
    """Start a run in ``out`` and follow it to its end, or to that of the session.

    ``report`` is called in the first process only. On SIGTERM, SIGINT (Ctrl-C) and after ``session.max_minutes`` the
    state is saved and the call returns; :func:`resume` continues.

    Raises :class:`TrainingError` when ``out`` holds a run already, when the loss diverges, memory ends or a worker is
    lost, and then names the last good checkpoint; :class:`~mimo.errors.DataError` for pairs that cannot be used, before
    anything is learnt; :class:`~mimo.errors.CheckpointError`, :class:`~mimo.errors.OutputError`.
    """
    _need_new(out)
    return _run(recipe.anywhere(), out, session or Session(), report, resumed=False)


def resume(
    out: Path,
    session: Session | None = None,
    report: Report = lambda event: None,
    *,
    epochs: int | None = None,
    iterations: int | None = None,
    data: Sequence[Path] | None = None,
    photographs: Sequence[Path] | None = None,
    validation: Path | None = None,
) -> Outcome:
    """Continue the run in ``out`` from ``last.pt``, to the bit on a CPU as if it had never been interrupted.

    ``epochs`` or ``iterations`` move the end of the run; ``data``, ``photographs`` and ``validation`` say where the same
    pictures lie now. As for :func:`train` otherwise; also raises     :class:`TrainingError` when there is no run, or the
    pictures are no longer those that it began with.
    """
    recipe = Recipe.from_json(read_run(out / LAST)["recipe"])
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs, iterations=None)
    if iterations is not None:
        recipe = replace(recipe, iterations=iterations)
    if data is not None:
        recipe = replace(recipe, data=tuple(data))
    if photographs is not None:
        recipe = replace(recipe, photographs=tuple(photographs))
    if validation is not None:
        recipe = replace(recipe, validation=validation)
    recipe = recipe.anywhere()
    return _run(recipe, out, session or Session(), report, resumed=True)


def _need_new(out: Path) -> None:
    if (out / LAST).exists():
        raise TrainingError(f"{out} holds a run already: continue it with --resume {out}, or choose another --out.")


def _run(recipe: Recipe, out: Path, session: Session, report: Report, *, resumed: bool) -> Outcome:
    deadline = time.monotonic() + 60 * session.max_minutes if session.max_minutes else None
    with stop_signals(repeated=is_launched()) as signals, join(session.device) as world:
        if not world.writer:
            report = _silent
        try:
            with ExitStack() as stack:
                if world.writer:
                    stack.enter_context(locked(out))
                    if not resumed:
                        _need_new(out)
                course = _prepared(recipe, out, session, world, report, signals=signals, deadline=deadline, resumed=resumed)
                if course.log is not None:
                    stack.callback(course.log.close)
                return course.follow(signals, fresh=not resumed)
        except torch.OutOfMemoryError as error:
            raise TrainingError(f"the GPU's memory ended: lower --batch-size or --patch-size. {good(out)}") from error
        except RuntimeError as error:
            if world.size > 1 and is_loss_of_worker(error):
                signals.finish_speaking()
                raise TrainingError(f"a worker was lost. {good(out)}") from error
            raise


def _prepared(
    recipe: Recipe,
    out: Path,
    session: Session,
    world: World,
    report: Report,
    *,
    signals: StopSignals,
    deadline: float | None,
    resumed: bool,
) -> Course:
    """Everything read, checked and built; nothing in ``out`` has changed when this raises."""
    (training, photographs), validation = learnt_pictures(recipe), validation_of(recipe)
    everything: tuple[Pair | Photograph, ...] = (*training, *photographs, *validation)
    data = digest(training, photographs, validation)
    content = read_run(out / LAST) if resumed else None
    if content is not None and content["data"] != data:
        raise TrainingError(
            f"the pictures have changed since {out / LAST} was written: bring them back, or begin a new run on the new "
            f"ones with --init {out / LAST}."
        )
    if odd := sum(len(not_regular(folder)) for folder in {path.parent for one in everything for path in files_of(one)}):
        report(Note(f"{odd} names of pictures are no regular files, and were left out."))
    if not validation:
        report(Note("No validation pictures: the weights of the last step are taken, whether or not they are the best."))

    def watch(done: int, of: int) -> None:
        if signals():
            # There is nothing to save yet.
            raise KeyboardInterrupt
        report(Checking(done, of))

    pictures = Pictures(
        everything,
        int(session.cache_gib * 2**30) // world.size,
        smallest=recipe.patch_size,
        cropped=len(training) + len(photographs),
    )
    if world.writer:
        if validation:
            check_metrics()
        pictures.check(workers=session.workers, watch=watch)
        report(_kept(pictures))
    # The others load what they need as they need it: every picture is known to be whole.
    world.wait()

    crops = source_of(recipe, pictures, len(training), len(photographs))
    learner = Learner(recipe, world, fresh=content is None)
    if content is not None:
        learner.unpack(content)
        if len(content["random"]) != world.size:
            report(Note(f"Begun with {len(content['random'])} processes, continued with {world.size}: not to the bit."))
    judged = range(len(pictures) - len(validation), len(pictures))
    tensorboard = _tensorboard(session, report)
    log = None
    if world.writer:
        log = RunLog(out, after=learner.step, tensorboard=tensorboard, say=lambda text: report(Note(text)))
    return Course(learner, crops, pictures, judged, out, session, deadline, data, log, report)


def _kept(pictures: Pictures) -> Note:
    kept, of = pictures.kept_pairs, len(pictures)
    text = f"{kept} of {of} pairs are kept decoded in memory ({pictures.kept / 2**30:.1f} GiB)"
    return Note(f"{text}." if kept == of else f"{text}; the others are decoded each time: raise --cache-gib if that is slow.")


def _tensorboard(session: Session, report: Report) -> bool:
    if session.tensorboard and not tensorboard_is_installed():
        report(Note(f"TensorBoard is not installed ({install('train')}); log.jsonl has the curve."))
        return False
    return session.tensorboard


def _silent(event: object) -> None:
    """For the processes that do not report."""
