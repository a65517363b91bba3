"""The command line: parse, call, print. Everything heavy is imported inside the commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, assert_never, get_args

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from mimo.errors import ArtifactError, MimoError
from mimo.spec import Shape, ShapeRange

if TYPE_CHECKING:
    from rich.progress import Progress

    from benchmarks.bench import Job, Row
    from engines.evaluation import Evaluation
    from engines.evaluation import Step as PictureStep
    from engines.verification import Verification
    from mimo.artifact import Artifact
    from mimo.learning.log import Event
    from mimo.networks.checkpoint import Checkpoint

app = typer.Typer(
    help="Export, compile, verify and honestly measure MIMO-UNet, and deblur photographs with it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# Rich takes 80 columns where there is no terminal; a log has room for the tables.
screen = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
notes = Console(stderr=True, highlight=False)

FAILED, REFUSED, NOT_RUN = 1, 2, 3
"""Exit codes: something did not pass; the command could not be carried out; passed as far as this machine can tell."""


Target = Literal["onnx"]
TensorRTChoice = Literal["tensorrt", "tensorrt-rtx"]
EngineChoice = Literal["auto", "pytorch", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"]
DeviceChoice = Literal["auto", "cpu", "cuda"]

Against = Annotated[
    Path | None,
    typer.Option(help="The checkpoint to compare with; by default the weights that ship with mimo.", show_default=False),
]
Images = Annotated[
    Path | None, typer.Option(help="A folder of photographs; by default those that ship with mimo.", show_default=False)
]
Artifacts = Annotated[
    list[Path] | None, typer.Argument(help="ONNX files and engines; by default all in this folder.", show_default=False)
]


ModelChoice = Literal["mimo-unet", "mimo-unet-plus", "mimo-unet-small"]
StyleChoice = Literal["shake", "video"]
ScheduleChoice = Literal["step", "cosine"]
AmpChoice = Literal["off", "bf16", "fp16"]
SubsetChoice = Literal["J", "R"]
ProtocolChoice = Literal["mimo", "uint8", "realblur"]
EnsembleChoice = Literal["none", "rot4"]
Protocol = Annotated[
    ProtocolChoice,
    typer.Option(help="mimo: not rounded; uint8: rounded to 8 bits; realblur: brightness and position aligned first."),
]
JsonOut = Annotated[Path | None, typer.Option("--json", help="Write everything here too.", show_default=False)]
CsvOut = Annotated[
    Path | None, typer.Option("--csv", help="Write a line per picture, per scene and overall here.", show_default=False)
]


@app.callback(invoke_without_command=False)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        screen.print(f"mimo {version_of('mimo-deblur')}")
        raise typer.Exit


@app.command("export")
def export_command(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            help="A .pkl or .safetensors, or mimo-unet-small for those of ours; by default mimo-unet, which ships with mimo.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[Target, typer.Option("--to", help="The format to write.")] = "onnx",
    out: Annotated[
        Path | None, typer.Option(help="The file to write; by default <model>.onnx here.", show_default=False)
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="A typed FP16 graph, as TensorRT 11 wants it.")] = False,
    io_fp16: Annotated[bool, typer.Option("--io-fp16", help="With --fp16: input and output float16 too.")] = False,
    all_scales: Annotated[bool, typer.Option("--all-scales", help="Also the quarter- and half-size outputs.")] = False,
) -> None:
    """Checkpoint -> ONNX with dynamic batch, height and width, checked against PyTorch before it is written."""
    if io_fp16 and not fp16:
        raise MimoError("--io-fp16 goes with --fp16: add it, or leave both out.")
    with working("loading the checkpoint"):
        source = _checkpoint(checkpoint)
    match to:
        case "onnx":
            from export.to_onnx import export_onnx

            path = out or Path(f"{source.spec.name}{'.fp16' if fp16 else ''}.onnx")
            with working(f"exporting {source.spec.name}"):
                artifact = export_onnx(
                    source, path, precision="fp16" if fp16 else "fp32", io_fp16=io_fp16, all_scales=all_scales
                )
        case _:
            assert_never(to)
    _print_artifact(artifact)


@app.command("build-engine")
def build_engine_command(
    onnx: Annotated[
        Path | None, typer.Argument(help="The ONNX file; by default the FP32 one in this folder.", show_default=False)
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Compute in FP16; an FP32 graph is converted first.")] = False,
    runtime: Annotated[
        TensorRTChoice, typer.Option(help="tensorrt-rtx builds without a GPU; tensorrt needs one.")
    ] = "tensorrt-rtx",
    minimum: Annotated[str, typer.Option("--min", help="Smallest batch x height x width.")] = "1x64x64",
    optimum: Annotated[str, typer.Option("--opt", help="The shape to tune for.")] = "1x720x1280",
    maximum: Annotated[str, typer.Option("--max", help="Largest batch x height x width.")] = "4x2160x3840",
    compute_capability: Annotated[
        str | None, typer.Option(help="GPUs to build for, such as 8.6,8.9 or current (tensorrt-rtx).", show_default=False)
    ] = None,
    allow_mixed: Annotated[bool, typer.Option("--allow-mixed", help="Accept convolutions in another precision.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="The plan to write; by default <model>[.fp16].engine beside the ONNX file.", show_default=False),
    ] = None,
) -> None:
    """ONNX -> TensorRT engine, with a receipt of the precision every convolution computes in."""
    from engines.build import build_engine
    from mimo.artifact import open_artifact

    shapes = ShapeRange(Shape.parse(minimum), Shape.parse(optimum), Shape.parse(maximum))
    source = open_artifact(onnx) if onnx else _only_fp32_onnx()
    stem = source.path.name.removesuffix(".onnx").removesuffix(".fp16")
    if source.precision == "fp16" and not fp16:
        raise MimoError(f"{source.path.name} is an FP16 graph: add --fp16, or name the FP32 one.")
    if fp16 and source.precision == "fp32":
        from export.to_fp16 import convert_to_fp16

        with working(f"converting {source.path.name} to FP16"):
            source = convert_to_fp16(source, source.path.with_name(f"{stem}.fp16.onnx"))
        _print_artifact(source)
    targets = tuple(part.strip() for part in compute_capability.split(",")) if compute_capability else ()
    path = out or source.path.with_name(f"{stem}{'.fp16' if fp16 else ''}.engine")
    with working(f"building {path.name} with {runtime}"):
        artifact = build_engine(
            source, path, runtime=runtime, shapes=shapes, compute_capabilities=targets, allow_mixed=allow_mixed
        )
    _print_artifact(artifact)


@app.command("verify")
def verify_command(
    artifacts: Artifacts = None,
    against: Against = None,
    images: Images = None,
    engine: Annotated[EngineChoice, typer.Option(help="Only this runtime; auto is every one that works here.")] = "auto",
    size: Annotated[str, typer.Option(help="The optimum to verify an ONNX file at.")] = "720x1280",
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the whole report here too.", show_default=False)
    ] = None,
) -> None:
    """Compare artifacts with PyTorch FP32 on real photographs. Exit code 1: not passed; 3: passed, but something not run."""
    from benchmarks.report import verification_remarks, verification_table
    from engines.verification import write_verifications
    from mimo.files import write_json

    paths = artifacts or _artifacts_here()
    results = list(_verify(paths, against, images, engine, Shape.parse(size)))
    write_verifications(results)
    if json_out:
        write_json(json_out, [one.to_json() for one in results])
    screen.print(verification_table(results))
    for line in verification_remarks(results):
        screen.print(line, soft_wrap=True)
    statuses = {one.status for one in results}
    raise typer.Exit(FAILED if "failed" in statuses else NOT_RUN if "not run" in statuses else 0)


class _BenchGroup(TyperGroup):
    """``mimo bench FILES...`` and ``mimo bench table``: what is not the name of a subcommand belongs to the first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if args[:1] == ["table"] else ["files", *args])

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return "" if name == "files" else name, command, rest


bench_app = typer.Typer(cls=_BenchGroup, add_completion=False)
app.add_typer(bench_app, name="bench", help="Measure latency, synchronised; mimo bench table compares networks.")

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILE[@RUNTIME]...",
        help="ONNX files, engines and checkpoints, each on every runtime that takes it or on the one after @; by default "
        "eager PyTorch and all in this folder.",
        show_default=False,
    ),
]
MinSamples = Annotated[
    int | None, typer.Option(help="Samples a row at least; 100 on a GPU, 20 on a CPU.", min=1, show_default=False)
]
SamplesOut = Annotated[
    Path | None, typer.Option("--json", help="Write context, summaries and raw samples here.", show_default=False)
]
RowsOut = Annotated[Path | None, typer.Option("--csv", help="Write a line per row here.", show_default=False)]
MaxSeconds = Annotated[
    float, typer.Option(help="Seconds for the samples of a row at most; then it is labelled not converged.", min=0)
]
HtmlOut = Annotated[Path | None, typer.Option("--html", help="Write a page to look at here.", show_default=False)]


@bench_app.command("files", epilog="mimo bench table compares networks: see mimo bench table --help.")
def bench_command(
    targets: Targets = None,
    against: Against = None,
    sync: Annotated[
        bool,
        typer.Option("--sync/--no-sync", help="Measure until the device has finished; --no-sync shows what is lost without."),
    ] = True,
    e2e: Annotated[bool, typer.Option("--e2e", help="More rows: from host array to host array, any size.")] = False,
    throughput: Annotated[
        int, typer.Option("--throughput", help="More rows: so many restorations in flight.", min=0, show_default=False)
    ] = 0,
    cuda_graph: Annotated[bool, typer.Option("--cuda-graph", help="More rows: the network captured and replayed.")] = False,
    cold_cache: Annotated[
        bool, typer.Option("--cold-l2", help="More rows: the last-level cache emptied before each sample.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Two files A B, called in turn: is B faster, slower or the same?")
    ] = False,
    atlas: Annotated[
        bool, typer.Option("--atlas", help="One file over a grid of sizes and batches, and what to build for it.")
    ] = False,
    size: Annotated[
        str | None, typer.Option(help="Height x width, 720x1280 by default; for --atlas several, with commas.")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="Images at a time, 1 by default; for --atlas several, with commas.")] = None,
    engine: Annotated[EngineChoice, typer.Option(help="Only this runtime; auto is every one that works here.")] = "auto",
    images: Images = None,
    min_samples: MinSamples = None,
    max_seconds: MaxSeconds = 60.0,
    limits: Annotated[
        bool, typer.Option("--limits/--no-limits", help="Also measure what this device could do at best.")
    ] = True,
    json_out: SamplesOut = None,
    csv_out: RowsOut = None,
    html_out: HtmlOut = None,
) -> None:
    """Measure latency, synchronised: warm-up, then samples until the median is known to 1 percent."""
    from benchmarks.bench import bench, compare_jobs
    from benchmarks.measurement import Plan
    from benchmarks.report import bench_remarks, bench_table, comparison_text
    from engines.sample_images import list_photographs
    from mimo.bundled import PHOTOGRAPHS

    if compare and atlas:
        raise MimoError("--compare and --atlas are two different jobs: leave one out.")
    plan = Plan(max_seconds=max_seconds, min_samples=min_samples)
    photographs = list_photographs(images or PHOTOGRAPHS)
    if atlas:
        from benchmarks.report import atlas_table
        from benchmarks.sweep import BATCHES, SIZES
        from benchmarks.sweep import atlas as measure_atlas

        (job,) = _exactly(1, targets, engine, "--atlas takes one file, such as mimo-unet.onnx@openvino")
        shapes = [
            Shape.parse(f"{count}x{side}")
            for side in (size.split(",") if size else SIZES)
            for count in (batch.split(",") if batch else BATCHES)
        ]
        with working("measuring") as say:
            report = measure_atlas(job, shapes, photographs, plan, json_out=json_out, progress=say)
        screen.print(atlas_table(report))
        for sentence in report["advice"]:
            screen.print(f"- {escape(sentence)}", soft_wrap=True)
        _write_report(report, None, csv_out, html_out)
        return
    shape = Shape.parse(f"{batch or 1}x{size or '720x1280'}")
    if compare:
        from benchmarks.compare import ComparePlan

        job_a, job_b = _exactly(2, targets, engine, "--compare takes two files, such as a.onnx@onnxruntime a.onnx@openvino")
        with working("comparing") as say:
            report = compare_jobs(job_a, job_b, shape, photographs, ComparePlan(max_seconds=2 * max_seconds), progress=say)
        for line in comparison_text(report):
            screen.print(line, soft_wrap=True)
        _write_report(report, json_out, csv_out, html_out)
        return
    jobs = [
        variant
        for job in _bench_jobs(targets, against, engine)
        for variant in _variants(job, e2e=e2e, throughput=throughput, cuda_graph=cuda_graph, cold_cache=cold_cache)
    ]
    rows: list[Row] = []
    with working("measuring") as say:
        report = bench(jobs, shape, photographs, plan, limits=limits, json_out=json_out, progress=say, finished=rows.append)
    screen.print(bench_table(rows, shape, sync=sync))
    for line in bench_remarks(rows):
        screen.print(line, soft_wrap=True)
    _write_report(report, None, csv_out, html_out)
    if not any(row.measurement for row in rows):
        raise typer.Exit(FAILED)


@bench_app.command("table")
def bench_table_command(
    size: Annotated[str, typer.Option(help="Height x width.")] = "720x1280",
    runtime: Annotated[
        Literal["pytorch", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"], typer.Option(help="Where all of them run.")
    ] = "pytorch",
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where all of them run.")] = "cpu",
    only: Annotated[
        list[str] | None, typer.Option(help="Only this network, such as nafnet-32; may be repeated.", show_default=False)
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NETWORK=FILE",
            help="Your download of a network's public weights; without, all but MIMO-UNet run untrained, which takes as long.",
            show_default=False,
        ),
    ] = None,
    fates: Annotated[
        bool, typer.Option("--fates/--no-fates", help="Also take each network through export, FP16 and engine building.")
    ] = True,
    images: Images = None,
    min_samples: MinSamples = None,
    max_seconds: MaxSeconds = 60.0,
    json_out: SamplesOut = None,
    csv_out: RowsOut = None,
    html_out: HtmlOut = None,
) -> None:
    """Measure DMPHN, MT-RNN, MPRNet, the MIMO-UNets and NAFNet alike, async and sync side by side."""
    from tempfile import TemporaryDirectory

    from benchmarks.measurement import Plan
    from benchmarks.networks import networks
    from benchmarks.report import networks_table
    from benchmarks.table import Tools, table
    from engines.sample_images import list_photographs
    from export.to_fp16 import convert_to_fp16
    from export.to_onnx import export_network
    from mimo.bundled import PHOTOGRAPHS

    given = {}
    for entry in weights or []:
        name, equals, path = entry.partition("=")
        if not equals:
            raise MimoError(f"--weights {entry}: write NETWORK=FILE, such as nafnet-32=NAFNet-GoPro-width32.pth.")
        given[name] = Path(path)
    chosen = networks(given)
    if only:
        if unknown := sorted(set(only) - {network.name for network in chosen}):
            known = ", ".join(dict.fromkeys(network.name for network in chosen))
            raise MimoError(f"--only {unknown[0]}: there is no such network in the table: use one of {known}.")
        chosen = tuple(network for network in chosen if network.name in only)
    plan = Plan(max_seconds=max_seconds, min_samples=min_samples)
    with TemporaryDirectory() as folder, working("measuring") as say:
        report = table(
            chosen,
            Shape.parse(f"1x{size}"),
            list_photographs(images or PHOTOGRAPHS),
            plan,
            Tools(export_network, convert_to_fp16, Path(folder)),
            runtime=runtime,
            device="cuda" if runtime.startswith("tensorrt") else device,
            fates=fates,
            json_out=json_out,
            progress=say,
        )
    screen.print(networks_table(report))
    for row in report["rows"]:
        if row["reason"]:
            screen.print(f"[yellow]{escape(row['network'])}: {escape(row['reason'])}[/yellow]", soft_wrap=True)
    _write_report(report, None, csv_out, html_out)
    if all(row["summary"] is None for row in report["rows"]):
        raise typer.Exit(FAILED)


@app.command("deblur")
def deblur_command(
    photographs: Annotated[list[Path], typer.Argument(help="Photographs and folders of them.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The folder for the results.")],
    model: Annotated[
        Path | None,
        typer.Option(
            help="A checkpoint, an ONNX file or an engine; by default the weights that ship with mimo.", show_default=False
        ),
    ] = None,
    engine: Annotated[EngineChoice, typer.Option(help="The runtime.")] = "auto",
    device: Annotated[DeviceChoice, typer.Option(help="Where to compute.")] = "auto",
    tile: Annotated[
        int | None,
        typer.Option(help="Longest side of a tile in pixels; by default what memory allows.", show_default=False, min=64),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            help="Pixels around a tile; less than the default is faster and an approximation.", show_default=False, min=0
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Also do what is done already.")] = False,
) -> None:
    """Photographs in, sharper photographs out: same names, formats, depth, EXIF and colour profile."""
    from engines.photographs import Step, deblur_photographs
    from engines.runtimes.opening import open_engine

    source = model or _shipped_onnx(engine)
    with working(f"loading {source.name}"):
        runner = open_engine(source, engine, device)
    with runner, _bar() as bar:
        task = bar.add_task("reading", total=None)

        def show(step: Step) -> None:
            done = step.index + step.tile / step.tiles
            bar.update(task, description=escape(step.source.name), total=step.count, completed=done)

        report = deblur_photographs(runner, photographs, out, tile=tile, context=context, overwrite=overwrite, progress=show)
    for failure in report.failed:
        notes.print(f"[red]not done[/red] {escape(f'{failure.source}: {failure.reason}')}", soft_wrap=True)
    screen.print(
        f"{len(report.done)} done, {len(report.skipped)} there already, {len(report.failed)} not done, "
        f"in {out} ({runner.name}, {report.seconds:.1f} s of inference)",
        markup=False,
    )
    if report.failed:
        raise typer.Exit(FAILED)


@app.command("eval")
def eval_command(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="A checkpoint, an ONNX file or an engine; by default the weights that ship with mimo.", show_default=False
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A folder with blur/ and sharp/, or a prepared dataset; by default the photographs that ship with mimo.",
            show_default=False,
        ),
    ] = None,
    ensemble: Annotated[EnsembleChoice, typer.Option(help="rot4: the mean over four rotations, as in MIMO-UNet++.")] = "none",
    protocol: Protocol = "mimo",
    engine: Annotated[EngineChoice, typer.Option(help="The runtime.")] = "auto",
    device: Annotated[DeviceChoice, typer.Option(help="Where to compute.")] = "auto",
    json_out: JsonOut = None,
    csv_out: CsvOut = None,
    html_out: Annotated[
        Path | None, typer.Option("--html", help="Write a page with a before/after slider here.", show_default=False)
    ] = None,
    save: Annotated[Path | None, typer.Option(help="A folder for the restored pictures.", show_default=False)] = None,
) -> None:
    """PSNR and SSIM of a model by a named protocol: per picture, per scene and overall, the blurry input beside it."""
    from engines.evaluation import evaluate
    from engines.gallery import Gallery
    from engines.runtimes.opening import open_engine
    from mimo.bundled import PHOTOGRAPHS, WEIGHTS

    source = model or WEIGHTS
    with working(f"loading {source.name}"):
        runner = open_engine(source, engine, device)
    gallery = Gallery()
    with runner, _pictures_bar() as show:

        def progress(step: PictureStep) -> None:
            show(step)
            if html_out:
                gallery.add(step)

        result = evaluate(
            runner,
            data or PHOTOGRAPHS,
            ensemble=ensemble,
            protocol=protocol,
            save_dir=save,
            model=source,
            progress=progress,
        )
    if html_out:
        gallery.write(html_out, result, f"{source.name} on {Path(result.method['data']).name}")
    _report_evaluation(result, json_out, csv_out)


@app.command("score")
def score_command(
    pred_dir: Annotated[Path, typer.Argument(help="The folder of pictures to score.")],
    truth_dir: Annotated[Path, typer.Argument(help="The folder of sharp pictures of the same names.")],
    protocol: Protocol = "mimo",
    json_out: JsonOut = None,
    csv_out: CsvOut = None,
) -> None:
    """The same numbers for anybody's pictures."""
    from engines.evaluation import score_folders

    with _pictures_bar() as show:
        result = score_folders(pred_dir, truth_dir, protocol, show)
    _report_evaluation(result, json_out, csv_out)


weights_app = typer.Typer(help="The weights that the authors published, and averages of one's own.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")


@weights_app.command("list")
def weights_list_command() -> None:
    """Say which there are."""
    from mimo.networks.pretrained import PUBLISHED

    table = Table("name", "model", "trained on", "from", box=None, pad_edge=False)
    for entry in PUBLISHED.values():
        table.add_row(entry.name, entry.spec_name, entry.data, entry.url)
    screen.print(table, soft_wrap=True)


@weights_app.command("fetch")
def weights_fetch_command(
    name: Annotated[str, typer.Argument(help="One of mimo weights list.")],
    out: Annotated[Path, typer.Option(help="The folder for the file.")] = Path(),
) -> None:
    """Download published weights, convert them to safetensors, and check that they are what came the first time."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from mimo.networks.pretrained import fetch, named

    entry = named(name)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True) as bar:
        task = bar.add_task(entry.name, total=None)
        path = fetch(entry, out, lambda done, total: bar.update(task, completed=done, total=total))
    screen.print(f"[bold]{escape(str(path))}[/bold]  {entry.spec_name}, trained on {entry.data}", soft_wrap=True)


@weights_app.command("average")
def weights_average_command(
    checkpoints: Annotated[list[Path], typer.Argument(metavar="CHECKPOINT...", help="Two or more of the same network.")],
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    half: Annotated[bool, typer.Option("--half", help="Store float16.")] = False,
) -> None:
    """The mean of several weights, often better than each where they began at the same ones."""
    _need_torch("averaging", "torch")
    from mimo.networks.checkpoint import average_checkpoints

    average = average_checkpoints(checkpoints, out, half=half)
    screen.print(
        f"[bold]{escape(str(out))}[/bold]  {average.spec.name}, the mean of {len(checkpoints)} checkpoints", soft_wrap=True
    )


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
    from mimo.learning.synthesis import STYLES, synthesize

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
    """Pairs -> weights, by the authors' recipe by default. On N GPUs: torchrun --nproc-per-node N -m cli train ..."""
    _need_torch("training", "train")
    from mimo.learning.recipe import Recipe, Session, parse_augment
    from mimo.learning.train import resume as continue_run
    from mimo.learning.train import train
    from mimo.spec import SPECS

    session = Session(device, workers, cache_gib, max_minutes, tensorboard, log_every)
    if resume is not None:
        _only_with_resume(ctx)
        folder, further = resume, epochs if "epochs" in _given(ctx) else None
        with training_bar(log_every) as report:
            outcome = continue_run(resume, session, report, epochs=further, iterations=iterations)
    else:
        if not data:
            raise MimoError("training needs --data, a folder with blur/ and sharp/ or a prepared dataset (or --resume RUN).")
        recipe = Recipe(
            spec=SPECS[model],
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


@app.command("inspect")
def inspect_command(file: Annotated[Path, typer.Argument(help="A checkpoint, an ONNX file or an engine.")]) -> None:
    """Say what a file is: network, lineage, precision, inputs and outputs, cost."""
    from engines.runtimes.opening import CHECKPOINT_SUFFIXES
    from mimo.artifact import load_onnx, open_artifact

    if file.suffix in CHECKPOINT_SUFFIXES:
        source = _checkpoint(file)
        spec = source.spec
        parameters = sum(tensor.numel() for tensor in source.state.values())
        _print_facts(
            {
                "checkpoint": str(source.path),
                "model": f"{spec.name}: {spec.residual_blocks} residual blocks, width {spec.width}, {parameters:,} parameters",
                "sha256": source.sha256,
                **source.lineage,
            }
        )
        return
    artifact = open_artifact(file)
    facts = _facts(artifact)
    if artifact.format == "onnx":
        from mimo.onnx_stats import macs, summarise

        proto = load_onnx(file)
        summary = summarise(proto)
        facts |= {
            "opset": str(summary.opset),
            "inputs": "; ".join(f"{name}: {kind}" for name, kind in summary.inputs.items()),
            "outputs": "; ".join(f"{name}: {kind}" for name, kind in summary.outputs.items()),
            "operators": ", ".join(f"{count} {name}" for name, count in summary.operators.items()),
            "convolutions": ", ".join(f"{count} in {name}" for name, count in summary.weight_types.items()),
            "parameters": f"{summary.parameters:,}",
            "cost": f"{macs(proto, Shape(1, 720, 1280)) / 1e9:.1f} GMAC at 720x1280, convolutions only",
        }
    _print_facts(facts)


@app.command("doctor")
def doctor_command() -> None:
    """Say what this machine can do: processor, GPU, runtimes and their versions."""
    from benchmarks.context import describe_machine

    machine = describe_machine()
    tools = machine.pop("tools")
    _print_facts({key.removesuffix("_bytes").replace("_", " "): _plain(value, key) for key, value in machine.items()})
    table = Table("runtime", "here", "version or cure", box=None, pad_edge=False)
    for name, find in _RUNTIMES.items():
        works, detail = find(tools)
        table.add_row(name, "[green]yes[/green]" if works else "[yellow]no[/yellow]", escape(detail))
    screen.print(table, soft_wrap=True)


def main() -> NoReturn:
    """Run the command line; every error of ours is one sentence on stderr and exit code 2."""
    try:
        app()
    except MimoError as error:
        notes.print(f"[red]mimo:[/red] {escape(str(error))}", soft_wrap=True)
        sys.exit(REFUSED)
    sys.exit(0)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner with ``what``, which the yielded function changes; on a terminal only."""
    with notes.status(escape(what)) as status:
        yield lambda text: status.update(escape(text))


def _bar() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=notes, transient=True)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar over ``what``; on a terminal only."""
    with _bar() as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


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


def _given(ctx: typer.Context) -> set[str]:
    """The names of the options that stand on the command line."""
    # By name: typer brings its own copy of click in some versions, the enumeration with it.
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def _only_with_resume(ctx: typer.Context) -> None:
    """Raises :class:`MimoError` for an option that a run has decided already."""
    if decided := sorted(_given(ctx) - _WITH_RESUME):
        names = ", ".join("--" + name.replace("_", "-").replace("compiled", "compile") for name in decided)
        raise MimoError(f"--resume takes a run's own options: leave out {names}, or begin a new run with --out.")


def _need_torch(what: str, extras: str, otherwise: str = "") -> None:
    from importlib.util import find_spec

    if not find_spec("torch"):
        raise MimoError(f"{what} needs torch: pip install 'mimo-deblur[{extras}]'{otherwise}.")


@contextmanager
def _pictures_bar() -> Iterator[Callable[[PictureStep], None]]:
    """A progress bar over pictures; on a terminal only."""
    with _bar() as bar:
        task = bar.add_task("reading", total=None)
        yield lambda step: bar.update(task, description=escape(step.score.name), total=step.total, completed=step.done)


def _report_evaluation(result: Evaluation, json_out: Path | None, csv_out: Path | None) -> None:
    """Print and write; exit code 1 when a picture has no number."""
    from benchmarks.report import evaluation_table
    from mimo.metrics import DESCRIPTIONS

    if json_out:
        result.write_json(json_out)
    if csv_out:
        result.write_csv(csv_out)
    screen.print(evaluation_table(result), soft_wrap=True)
    screen.print(f"protocol {result.protocol}: {DESCRIPTIONS[result.protocol]}", soft_wrap=True)
    if missing := result.without_number:
        notes.print(f"[yellow]without a number, and so the mean too: {escape(', '.join(missing[:5]))}[/yellow]", soft_wrap=True)
        raise typer.Exit(FAILED)


def _checkpoint(path: Path | None) -> Checkpoint:
    _need_torch("a checkpoint", "torch", ", or use an ONNX file made elsewhere")
    from mimo.bundled import SHIPPED, WEIGHTS
    from mimo.networks.checkpoint import load_checkpoint

    if path is not None and not path.exists():
        path = SHIPPED.get(str(path), path)
    return load_checkpoint(path or WEIGHTS)


def _artifacts_here() -> list[Path]:
    found = sorted(path for path in Path().iterdir() if path.suffix in (".onnx", ".engine"))
    if not found:
        raise ArtifactError("there is no ONNX file or engine in this folder: run mimo export --to onnx first, or name a file.")
    return found


def _bench_jobs(targets: list[str] | None, against: Path | None, engine: EngineChoice) -> list[Job]:
    """What ``mimo bench`` measures: the named files, or eager PyTorch and every artifact in this folder."""
    from importlib.util import find_spec

    from benchmarks.bench import Job, jobs_for
    from mimo.bundled import WEIGHTS

    cuda = _cuda_is_here()
    if targets:
        chosen = [_target(target, engine) for target in targets]
    else:
        chosen = [(path, engine) for path in (against or WEIGHTS, *_artifacts_here())]
    jobs = []
    for path, runtime in chosen:
        possible = jobs_for(path, cuda=cuda)
        if runtime != "auto":
            device: Literal["cpu", "cuda"] = "cuda" if runtime.startswith("tensorrt") else "cpu"
            possible = [job for job in possible if job.runtime == runtime] or ([Job(path, runtime, device)] if targets else [])
        if not targets and not find_spec("torch"):
            possible = [job for job in possible if job.runtime != "pytorch"]
        jobs += possible
    if not jobs:
        raise MimoError(f"nothing here runs on {engine}: name a file that does, or leave --engine out.")
    return jobs


def _target(target: str, engine: EngineChoice) -> tuple[Path, EngineChoice]:
    """``FILE`` or ``FILE@RUNTIME``; a file whose own name ends so is taken as it is."""
    name, at, runtime = target.rpartition("@")
    if not at or Path(target).exists():
        return Path(target), engine
    for choice in get_args(EngineChoice):
        if choice == runtime:
            return Path(name), choice
    raise MimoError(f"{target}: there is no runtime {runtime}: use one of {', '.join(get_args(EngineChoice)[1:])}.")


def _exactly(count: int, targets: list[str] | None, engine: EngineChoice, usage: str) -> list[Job]:
    from benchmarks.bench import job_on

    if len(targets or []) != count:
        raise MimoError(f"{usage}, not {len(targets or [])}.")
    cuda = _cuda_is_here()
    chosen = [_target(target, engine) for target in targets or []]
    return [job_on(path, None if runtime == "auto" else runtime, cuda=cuda) for path, runtime in chosen]


def _variants(job: Job, *, e2e: bool, throughput: int, cuda_graph: bool, cold_cache: bool) -> Iterator[Job]:
    """``job`` and the further modes that were asked for; those that only a GPU has, only there."""
    yield job
    if e2e:
        yield replace(job, mode="e2e")
    if throughput:
        yield replace(job, mode="throughput", in_flight=throughput)
    if cuda_graph and job.device == "cuda":
        yield replace(job, mode="cuda-graph")
    if cold_cache:
        yield replace(job, mode="cold-cache")


def _write_report(report: Mapping[str, Any], json_out: Path | None, csv_out: Path | None, html_out: Path | None) -> None:
    from benchmarks.csv_report import report_csv
    from mimo.files import write_bytes, write_json

    if json_out is not None:
        write_json(json_out, report)
    if csv_out is not None:
        write_bytes(csv_out, report_csv(report).encode())
    if html_out is not None:
        from benchmarks.pages.page import write_page

        write_page(html_out, report)


def _only_fp32_onnx() -> Artifact:
    from mimo.artifact import open_artifact

    found = [artifact for path in sorted(Path().glob("*.onnx")) if (artifact := open_artifact(path)).precision == "fp32"]
    match found:
        case [one]:
            return one
        case []:
            raise ArtifactError("there is no FP32 ONNX file in this folder: run mimo export --to onnx first, or name one.")
        case _:
            raise ArtifactError(f"there are several ONNX files ({', '.join(one.path.name for one in found)}): name one.")


def _shipped_onnx(engine: EngineChoice) -> Path:
    """The shipped weights as a file that ``engine`` runs: themselves for PyTorch, else as ONNX, exported once into a cache."""
    import platformdirs

    from mimo.artifact import open_artifact
    from mimo.bundled import WEIGHTS
    from mimo.files import sha256_of

    if engine == "pytorch":
        return WEIGHTS
    cached: Path = platformdirs.user_cache_path("mimo") / f"{WEIGHTS.stem}-{sha256_of(WEIGHTS)[:12]}.onnx"
    try:
        open_artifact(cached)
    except ArtifactError:
        checkpoint = _checkpoint(None)
        from export.to_onnx import export_onnx

        with working(f"exporting the shipped weights once, to {cached}"):
            export_onnx(checkpoint, cached)
    return cached


def _cuda_is_here() -> bool:
    from benchmarks.context import describe_gpu

    return describe_gpu() is not None


def _verify(
    paths: list[Path], against: Path | None, images: Path | None, choice: EngineChoice, optimum: Shape
) -> Iterator[Verification]:
    from benchmarks.bench import jobs_for
    from engines.runtimes.opening import open_engine
    from engines.sample_images import list_pairs, list_photographs
    from engines.verification import Reference, verify_numerics, verify_structure
    from mimo.artifact import open_artifact
    from mimo.bundled import PHOTOGRAPHS
    from mimo.errors import EngineUnavailable

    artifacts = [open_artifact(path) for path in paths]
    photographs = list_photographs(images or PHOTOGRAPHS)
    pairs = list_pairs(images) if images else []
    checkpoint = _checkpoint(against)
    from engines.runtimes.pytorch import PyTorchEngine  # after what says that torch is missing

    for artifact in artifacts:
        if artifact.checkpoint_sha256 != checkpoint.sha256:
            raise ArtifactError(
                f"{artifact.path.name} was made from another checkpoint (sha256 {artifact.checkpoint_sha256[:12]}) than "
                f"{checkpoint.path.name} ({checkpoint.sha256[:12]}): name its own with --against."
            )
    cuda = _cuda_is_here()
    with working("verifying") as say:
        reference = Reference(PyTorchEngine(checkpoint, "cuda" if cuda else "cpu"))
        for artifact in artifacts:
            for job in jobs_for(artifact.path, cuda=cuda):
                if choice not in ("auto", job.runtime):
                    continue
                try:
                    engine = open_engine(job.path, job.runtime, job.device)
                except EngineUnavailable as error:
                    if artifact.format == "onnx" and choice == "auto":
                        continue  # a runtime that is not installed is none of those that work here
                    if artifact.format == "onnx":
                        raise
                    say(f"{artifact.path.name}: structure")
                    yield verify_structure(artifact, checkpoint.sha256, "no GPU" if not cuda else str(error))
                    continue
                with engine:
                    yield verify_numerics(
                        artifact, engine, reference, checkpoint.sha256, photographs, optimum=optimum, pairs=pairs, progress=say
                    )


def _print_artifact(artifact: Artifact) -> None:
    megabytes = artifact.path.stat().st_size / 1e6
    screen.print(
        f"[bold]{escape(str(artifact.path))}[/bold]  {megabytes:.1f} MB, {artifact.spec.name}, {artifact.precision}",
        soft_wrap=True,
    )
    if artifact.receipt:
        screen.print(f"  receipt: {artifact.receipt}")
    if artifact.shapes:
        screen.print(f"  profile: {artifact.shapes}")


def _facts(artifact: Artifact) -> dict[str, str]:
    spec = artifact.spec
    facts = {
        artifact.format: str(artifact.path),
        "model": f"{spec.name}: {spec.residual_blocks} residual blocks, width {spec.width}",
        "precision": f"{artifact.precision}, input and output {artifact.io}",
        "sha256": artifact.sha256,
        "checkpoint": artifact.checkpoint_sha256,
    }
    if artifact.parent:
        facts["made from"] = f"{artifact.parent} ({(artifact.parent_sha256 or '')[:12]})"
    if artifact.receipt:
        facts["receipt"] = str(artifact.receipt)
    if artifact.shapes:
        facts["profile"] = str(artifact.shapes)
    if artifact.compute_capabilities:
        facts["built for"] = ", ".join(artifact.compute_capabilities)
    return facts | {"tools": ", ".join(f"{name} {version}" for name, version in artifact.tools.items())}


def _print_facts(facts: dict[str, str]) -> None:
    width = max(map(len, facts))
    for name, value in facts.items():
        screen.print(f"{name:<{width}}  {escape(value)}", soft_wrap=True)


def _plain(value: Any, key: str = "") -> str:
    if value is not None and key.endswith("_bytes"):
        return f"{value / 2**30:.2f} GiB"
    if isinstance(value, dict):
        value = [f"{name} {_plain(inner, name)}" for name, inner in value.items()]
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else "none" if value is None else str(value)


def _found(package: str, cure: str) -> Callable[[dict[str, str]], tuple[bool, str]]:
    def find(tools: dict[str, str]) -> tuple[bool, str]:
        version = next((tools[name] for name in package.split("|") if name in tools), None)
        return (True, version) if version else (False, cure)

    return find


_RUNTIMES = {
    "pytorch": _found("torch", "pip install 'mimo-deblur[torch]'"),
    "onnxruntime": _found("onnxruntime|onnxruntime-gpu", "pip install 'mimo-deblur[cpu]' (or [gpu])"),
    "openvino": _found("openvino", "pip install 'mimo-deblur[cpu]'"),
    "tensorrt-rtx": _found("tensorrt-rtx-cu13", "pip install 'mimo-deblur[tensorrt-rtx]'"),
    "tensorrt": _found("tensorrt", "pip install 'mimo-deblur[tensorrt]' on a machine with an NVIDIA GPU"),
}


if __name__ == "__main__":
    main()
