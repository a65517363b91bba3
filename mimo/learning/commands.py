"""Commands of this room: prepare, synthesize, train."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from mimo.errors import MimoError
from mimo.terminal import DeviceChoice, counting, given, need_torch, notes, screen

if TYPE_CHECKING:
    from mimo.learning.log import Event

app = typer.Typer()

ModelChoice = Literal["mimo-unet", "mimo-unet-plus", "mimo-unet-small"]
StyleChoice = Literal["shake", "video"]
ScheduleChoice = Literal["step", "cosine"]
AmpChoice = Literal["off", "bf16", "fp16"]
SubsetChoice = Literal["J", "R"]

prepare_app = typer.Typer(
    help="Bring a public dataset into train/, val/ and test/ with blur/ and sharp/, by hard links; nothing is moved.",
    no_args_is_help=True,
)
app.add_typer(prepare_app, name="prepare")

Source = Annotated[Path, typer.Argument(metavar="SRC", help="The dataset as it was unpacked.")]
Destination = Annotated[Path, typer.Argument(metavar="DST", help="The folder to make; run again, it finishes what is missing.")]
ValScenes = Annotated[
    int | None,
    typer.Option(
        "--val-scenes", help="Whole scenes set aside from train for validation; by default a tenth.", show_default=False, min=0
    ),
]


@prepare_app.command("gopro")
def prepare_gopro_command(
    src: Source,
    dst: Destination,
    gamma: Annotated[
        bool, typer.Option("--gamma", help="Take blur_gamma; the published numbers are of blur, the linear one.")
    ] = False,
    val_scenes: ValScenes = None,
) -> None:
    """GOPRO_Large: train/<scene>/{blur,sharp} and test likewise; 2103 and 1111 pairs."""
    from mimo.learning.prepare import prepare_gopro

    with counting("pictures") as watch:
        prepared = prepare_gopro(src, dst, gamma=gamma, validation_scenes=val_scenes, watch=watch)
    screen.print(str(prepared), soft_wrap=True, markup=False)


@prepare_app.command("realblur")
def prepare_realblur_command(
    src: Source,
    dst: Destination,
    subset: Annotated[SubsetChoice, typer.Option(help="J: as the camera developed it; R: from raw.")] = "J",
    val_scenes: ValScenes = None,
) -> None:
    """RealBlur-J or -R, by the dataset's own lists; 3758 and 980 pairs."""
    from mimo.learning.prepare import prepare_realblur

    with counting("pictures") as watch:
        prepared = prepare_realblur(src, dst, subset=subset, validation_scenes=val_scenes, watch=watch)
    screen.print(str(prepared), soft_wrap=True, markup=False)


@prepare_app.command("hide")
def prepare_hide_command(src: Source, dst: Destination) -> None:
    """HIDE: its 2025 test pairs."""
    from mimo.learning.prepare import prepare_hide

    with counting("pictures") as watch:
        prepared = prepare_hide(src, dst, watch=watch)
    screen.print(str(prepared), soft_wrap=True, markup=False)


@app.command("synthesize")
def synthesize_command(
    sharp_dir: Annotated[Path, typer.Argument(help="A folder of sharp photographs.")],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The dataset to make; run again, it grows or finishes.")],
    count: Annotated[int, typer.Option(help="How many pairs there shall be.", min=1)],
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.", min=0)] = 0,
    style: Annotated[
        StyleChoice,
        typer.Option(help="shake: a photograph from the hand; video: averaged frames with moving things, as in GoPro."),
    ] = "shake",
    longest: Annotated[
        float | None,
        typer.Option(help="The longest track, in pixels; by default 40 (shake) or 45 (video).", min=1.5, show_default=False),
    ] = None,
    workers: Annotated[int, typer.Option(help="Threads.", min=1)] = 2,
) -> None:
    """Sharp photographs -> blurry/sharp pairs by motion during the exposure, mild and strong."""
    from mimo.learning.styles import STYLES
    from mimo.learning.synthesis import synthesize

    shake = STYLES[style] if longest is None else replace(STYLES[style], longest=longest)
    with counting("pairs") as watch:
        made = synthesize(sharp_dir, dst, count, seed, shake=shake, workers=workers, watch=watch)
    screen.print(f"{count} pairs in {dst}, {made} of them made now.", soft_wrap=True, markup=False)


@app.command("train")
def train_command(
    ctx: typer.Context,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="A prepared dataset or a folder with blur/ and sharp/; may be given several times.", show_default=False
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of the run.", show_default=False)] = None,
    model: Annotated[
        ModelChoice, typer.Option(help="The network; mimo-unet-small is ours, the others the paper's.")
    ] = "mimo-unet",
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Continue the run in this folder, to the bit on a CPU; it knows its own options.", show_default=False
        ),
    ] = None,
    val: Annotated[Path | None, typer.Option(help="Validation pairs; by default val/ of the data.", show_default=False)] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training pairs.")] = 3000,
    iterations: Annotated[
        int | None, typer.Option(help="Updates of the weights; takes the place of --epochs.", show_default=False)
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Crops per update, in each process.")] = 4,
    patch_size: Annotated[int, typer.Option(help="Side of a crop in pixels, a multiple of 4.")] = 256,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 1e-4,
    schedule: Annotated[ScheduleChoice, typer.Option(help="step: halved now and then; cosine: down to 0 at the end.")] = "step",
    halve_every: Annotated[int, typer.Option(help="Epochs, with --schedule step.")] = 500,
    warmup: Annotated[int, typer.Option(help="Updates over which the learning rate rises.")] = 0,
    amp: Annotated[AmpChoice, typer.Option(help="Mixed precision; bf16 needs no more care than off.")] = "off",
    ema: Annotated[float, typer.Option(help="Decay of a running mean of the weights, such as 0.999; 0 is off.")] = 0.0,
    grad_clip: Annotated[float, typer.Option(help="Largest norm of the gradient; 0 is off.")] = 0.0,
    augment: Annotated[
        str, typer.Option(help="Any of flips,rot90,rgb-shuffle, or none. The authors' recipe is flips.")
    ] = "flips",
    init: Annotated[Path | None, typer.Option(help="A checkpoint to start from.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is random.")] = 0,
    val_every: Annotated[int, typer.Option(help="Updates between validations.")] = 2000,
    val_crop: Annotated[
        int, typer.Option(help="Validate on the middle of each picture, so many pixels a side; 0 is all of it.")
    ] = 0,
    save_every: Annotated[int, typer.Option(help="Updates between checkpoints.")] = 500,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the network with torch.compile.")] = False,
    device: Annotated[DeviceChoice, typer.Option(help="Where to train.")] = "auto",
    workers: Annotated[int, typer.Option(help="Threads that load pictures.")] = 4,
    cache_gib: Annotated[float, typer.Option(help="GiB of decoded pictures kept in memory.")] = 4.0,
    max_minutes: Annotated[
        float | None, typer.Option(help="Validate, save and stop after so long; --resume continues.", show_default=False)
    ] = None,
    log_every: Annotated[int, typer.Option(help="Updates between rows of log.jsonl.")] = 50,
    tensorboard: Annotated[bool, typer.Option(help="Write TensorBoard files, where it is installed.")] = True,
    profile_loader: Annotated[
        bool, typer.Option("--profile-loader", help="Only measure whether loading keeps up with training.")
    ] = False,
) -> None:
    """Pairs -> weights, by the authors' recipe by default. On N GPUs: torchrun --nproc-per-node N -m mimo train ..."""
    need_torch("training", "train")
    from mimo.learning.recipe import Recipe, Session, parse_augment
    from mimo.learning.train import resume as continue_run
    from mimo.learning.train import train
    from mimo.networks.registry import named

    session = Session(device, workers, cache_gib, max_minutes, tensorboard, log_every)
    if resume is not None:
        _only_with_resume(ctx)
        folder, further = resume, epochs if "epochs" in given(ctx) else None
        with training_bar(log_every) as report:
            outcome = continue_run(resume, session, report, epochs=further, iterations=iterations)
    else:
        if not data:
            raise MimoError("training needs --data, a folder with blur/ and sharp/ or a prepared dataset (or --resume RUN).")
        recipe = Recipe(
            spec=named(model),
            data=tuple(data),
            validation=val,
            epochs=epochs,
            iterations=iterations,
            batch_size=batch_size,
            patch_size=patch_size,
            lr=lr,
            schedule=schedule,
            halve_every=halve_every,
            warmup=warmup,
            amp=amp,
            ema=ema,
            grad_clip=grad_clip,
            augment=parse_augment(augment),
            init=init,
            seed=seed,
            val_every=val_every,
            val_crop=val_crop,
            save_every=save_every,
            compile=compiled,
        )
        if profile_loader:
            from benchmarks.loader import measure_loader

            with counting("pairs read") as watch:
                rates = measure_loader(recipe, session, watch=watch)
            screen.print(str(rates), soft_wrap=True)
            return
        if out is None:
            raise MimoError("training needs --out, the folder of the run.")
        folder = out
        with training_bar(log_every) as report:
            outcome = train(recipe, out, session, report)
    if not outcome.writer:
        return
    best = "" if outcome.best_psnr is None else f"; best {outcome.best_psnr:.3f} dB at step {outcome.best_step}"
    weights = f", in {outcome.weights}" if outcome.weights else ""
    screen.print(f"{outcome.step} of {outcome.steps} steps{best}{weights}", soft_wrap=True, markup=False)
    if outcome.stopped != "done":
        screen.print(f"Continue with: mimo train --resume {folder}", soft_wrap=True, markup=False)
    if outcome.stopped == "signal":
        raise typer.Exit(130)


@contextmanager
def training_bar(log_every: int) -> Iterator[Callable[[Event], None]]:
    """What a run says: a bar with loss, crops/s and time left on a terminal, a line now and then elsewhere."""
    from datetime import timedelta

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from mimo.learning.log import Checking, Note, Validated

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"))
    with Progress(*columns, console=notes, transient=True) as bar:
        task = bar.add_task("reading", total=None, facts="")

        def show(event: Event) -> None:
            if isinstance(event, Note):
                notes.print(escape(event.text), soft_wrap=True)
            elif isinstance(event, Checking):
                bar.update(task, completed=event.done, total=event.pairs, facts="pairs")
            elif isinstance(event, Validated):
                mark = ", the best so far" if event.best else ""
                score = f"step {event.step}: {event.psnr:.3f} dB, SSIM {event.ssim:.4f} on {event.pictures} pictures{mark}"
                score += f"; sharp ones stay at {event.sharp_psnr:.1f} dB, the lowest at {event.sharp_lowest:.1f} dB"
                notes.print(score, soft_wrap=True)
            else:
                left = timedelta(seconds=round(event.seconds_left))
                facts = f"loss {event.loss:.4f}  {event.crops_per_second:.3g} crops/s  {left} left"
                bar.update(task, description="training", completed=event.step, total=event.steps, facts=facts)
                if not notes.is_terminal and event.step % log_every == 0:
                    notes.print(f"step {event.step} of {event.steps}: lr {event.lr:.3g}  {facts}", soft_wrap=True)

        yield show


_WITH_RESUME = frozenset({
    "resume", "epochs", "iterations", "device", "workers", "cache_gib", "max_minutes", "log_every", "tensorboard",
})  # fmt: skip


def _only_with_resume(ctx: typer.Context) -> None:
    """Raises :class:`MimoError` for an option that a run has decided already."""
    if decided := sorted(given(ctx) - _WITH_RESUME):
        names = ", ".join("--" + name.replace("_", "-").replace("compiled", "compile") for name in decided)
        raise MimoError(f"--resume takes a run's own options: leave out {names}, or begin a new run with --out.")
