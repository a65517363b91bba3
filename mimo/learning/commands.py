"""Commands of this room: prepare, synthesize, train."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin, get_type_hints

import typer

from mimo.bundled import given_file
from mimo.errors import MimoError
from mimo.learning.recipe import Recipe, Session, flag_of, options_of, parse_augment
from mimo.learning.styles import STYLES, Style
from mimo.terminal import counting, given, need_torch, notes, say, screen
from mimo.wording import literal

if TYPE_CHECKING:
    from mimo.learning.log import Event

app = typer.Typer()

SubsetChoice = Literal["J", "R"]

prepare_app = typer.Typer(
    help="Arrange a public dataset as train/, val/ and test/ with blur/ and sharp/, by hard links; nothing is moved.",
    no_args_is_help=True,
)
app.add_typer(prepare_app, name="prepare")

Source = Annotated[Path, typer.Argument(metavar="SRC", help="The unpacked dataset.")]
Destination = Annotated[
    Path,
    typer.Argument(metavar="DST", file_okay=False, writable=True, help="The folder to create; a second run completes it."),
]
ValScenes = Annotated[
    int | None,
    typer.Option(
        "--val-scenes",
        help="Number of whole training scenes to set aside for validation; by default a tenth.",
        show_default=False,
        min=0,
    ),
]


@prepare_app.command("gopro")
def prepare_gopro_command(
    src: Source,
    dst: Destination,
    gamma: Annotated[
        bool, typer.Option("--gamma", help="Use blur_gamma instead of blur, the linear one, on which published numbers are.")
    ] = False,
    val_scenes: ValScenes = None,
) -> None:
    """GOPRO_Large: train/<scene>/{blur,sharp} and test likewise; 2103 and 1111 pairs."""
    from mimo.learning.prepare import prepare_gopro

    with counting("pictures") as watch:
        prepared = prepare_gopro(src, dst, gamma=gamma, validation_scenes=val_scenes, watch=watch)
    say(str(prepared))


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
    say(str(prepared))


@prepare_app.command("hide")
def prepare_hide_command(src: Source, dst: Destination) -> None:
    """HIDE: its 2025 test pairs."""
    from mimo.learning.prepare import prepare_hide

    with counting("pictures") as watch:
        prepared = prepare_hide(src, dst, watch=watch)
    say(str(prepared))


@app.command("synthesize")
def synthesize_command(
    sharp_dir: Annotated[Path, typer.Argument(help="A folder of sharp photographs.")],
    dst: Annotated[
        Path,
        typer.Argument(
            metavar="DST", file_okay=False, writable=True, help="The dataset to create; a second run extends or completes it."
        ),
    ],
    count: Annotated[int, typer.Option(help="Number of pairs.", min=1)],
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.", min=0)] = 0,
    style: Annotated[
        Style,
        typer.Option(
            help="shake: a photograph from the hand, from 1 to 40 pixels; handheld: what people's photographs have, 3 to 28; "
            "video: averaged frames with moving things, as in GoPro."
        ),
    ] = "shake",
    shortest: Annotated[
        float | None, typer.Option(help="The shortest track, in pixels; by default the style's.", show_default=False)
    ] = None,
    longest: Annotated[
        float | None, typer.Option(help="The longest track, in pixels; by default the style's.", show_default=False)
    ] = None,
    workers: Annotated[int, typer.Option(help="Number of threads.", min=1)] = 2,
) -> None:
    """Sharp photographs -> blurry/sharp pairs by motion during the exposure, mild and strong."""
    from mimo.learning.datasets import not_regular
    from mimo.learning.synthesis import synthesize
    from mimo.outputs import check_output_folder

    for side in ("blur", "sharp"):
        check_output_folder("DST", dst / side, [sharp_dir])

    shake = STYLES[style].between(shortest, longest)
    with counting("pairs") as watch:
        made = synthesize(sharp_dir, dst, count, seed, shake=shake, workers=workers, watch=watch)
    if odd := not_regular(sharp_dir):
        notes.print(f"{len(odd)} names of photographs are no regular files, and were left out.", soft_wrap=True)
    say(f"{count} pairs in {dst}, {made} of them made now.")


def _with_options_of(*kinds: type[Recipe] | type[Session]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for each field: type, default and help stand there and nowhere else."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        for kind in kinds:
            types, defaults = get_type_hints(kind), {one.name: one.default for one in fields(kind)}
            for name, known in options_of(kind).items():
                hint, default = _on_the_command_line(types[name], defaults[name])
                annotation: Any = Annotated[
                    hint,
                    typer.Option(*_flags(hint, name), help=known.help, show_default=default not in (None, False, True)),
                ]
                own.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation))
        vars(command)["__signature__"] = signature.replace(parameters=own)
        command.__annotations__ = {one.name: one.annotation for one in own} | {"return": None}
        return command

    return decorate


def _on_the_command_line(hint: Any, default: Any) -> tuple[Any, Any]:
    """Type and default of a field as typer takes them: folders may be given several times, augmentations are one word."""
    if hint == tuple[Path, ...]:
        return list[Path] | None, None
    if get_origin(hint) is tuple:
        return str, ",".join(default)
    return hint, default


def _flags(hint: Any, name: str) -> tuple[str, ...]:
    flag = flag_of(name)
    return (f"{flag}/--no-{flag[2:]}",) if hint is bool and name == "tensorboard" else (flag,)


@app.command("train")
@_with_options_of(Recipe, Session)
def train_command(
    ctx: typer.Context,
    out: Annotated[
        Path | None, typer.Option(help="The folder of the run.", file_okay=False, writable=True, show_default=False)
    ] = None,
    model: Annotated[str, typer.Option(help="Name of the network, such as mimo-unet-small or nafnet-32.")] = "mimo-unet",
    width: Annotated[
        int | None, typer.Option(help="Channels at full size, for a custom MIMO-UNet or NAFNet.", show_default=False)
    ] = None,
    blocks: Annotated[
        int | None, typer.Option(help="Residual blocks in each stage, for a custom MIMO-UNet.", show_default=False)
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Continue the run in this folder with its own options, bit for bit on a CPU.", show_default=False),
    ] = None,
    profile_loader: Annotated[
        bool, typer.Option("--profile-loader", help="Measure whether loading keeps up with training, and exit.")
    ] = False,
    **chosen: Any,
) -> None:
    """Pairs -> weights, by the authors' recipe by default. On N GPUs: torchrun --nproc-per-node N -m mimo train ..."""
    need_torch("training", "train")
    from mimo.learning.train import resume as continue_run
    from mimo.learning.train import train
    from mimo.networks.registry import own

    session = Session(**{name: chosen[name] for name in options_of(Session)})
    if resume is not None:
        _only_with_resume(ctx)
        further = {name: chosen[name] for name in _MOVED if name in given(ctx)}
        folder = resume
        with training_bar(session.log_every) as report:
            outcome = continue_run(resume, session, report, **further)
    else:
        asked = {name: chosen[name] for name in options_of(Recipe)}
        if asked["init"] is not None:
            asked["init"] = given_file(asked["init"])
        folders = {name: tuple(asked[name] or ()) for name in ("data", "photographs")}
        recipe = Recipe(spec=own(model, width, blocks), **asked | folders | {"augment": parse_augment(asked["augment"])})
        if profile_loader:
            from benchmarks.loader import measure_loader

            with counting("pairs read") as watch:
                rates = measure_loader(recipe, session, watch=watch)
            screen.print(str(rates), soft_wrap=True)
            return
        if out is None:
            raise MimoError("training needs --out, the folder of the run.")
        folder = out
        with training_bar(session.log_every) as report:
            outcome = train(recipe, out, session, report)
    if not outcome.writer:
        return
    best = "" if outcome.best_psnr is None else f"; best {outcome.best_psnr:.3f} dB at step {outcome.best_step}"
    weights = f", in {outcome.weights}" if outcome.weights else ""
    say(f"{outcome.step} of {outcome.steps} steps{best}{weights}")
    if outcome.stopped != "done":
        say(f"Continue with: mimo train --resume {folder}")
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
                notes.print(literal(event.text), soft_wrap=True)
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


# What may be said of a run anew: where it ends, and where the same pictures lie now.
_MOVED = ("epochs", "iterations", "data", "photographs", "validation")
_WITH_RESUME = frozenset({"resume", *_MOVED, *options_of(Session)})


def _only_with_resume(ctx: typer.Context) -> None:
    """Raises :class:`MimoError` for an option that a run has decided already."""
    if decided := sorted(given(ctx) - _WITH_RESUME):
        names = ", ".join(map(flag_of, decided))
        raise MimoError(f"--resume takes a run's own options: leave out {names}, or begin a new run with --out.")
