"""Commands of this room: bench, compare, sweep, table, doctor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from engines.options import OneRuntime, Precision, Threads, chosen_threads
from engines.runtimes.table import RUNTIMES, Runtime, runtime_info
from engines.runtimes.table import Device as DeviceName
from mimo.errors import ArtifactError, MimoError
from mimo.terminal import FAILED, UNDECIDED, Against, Images, JsonOut, plain, print_facts, report_failure, screen, working
from mimo.wording import literal

if TYPE_CHECKING:
    from benchmarks.gate import Ruling
    from benchmarks.reports import Report

app = typer.Typer()

SchemaName = Literal["bench", "compare", "sweep", "table", "verify", "eval"]

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FILE[@RUNTIME]...",
        help="ONNX files, engines, checkpoints and triton:// URLs, each on every runtime that takes it or on the one after @; "
        "by default eager PyTorch and all in the current directory.",
        show_default=False,
    ),
]
MinSamples = Annotated[
    int | None,
    typer.Option(help="Minimum number of samples per row; by default 100 on a GPU, 20 on a CPU.", min=1, show_default=False),
]
SamplesOut = Annotated[
    Path | None,
    typer.Option("--json", writable=True, help="JSON file to write: context, summaries and raw samples.", show_default=False),
]
RowsOut = Annotated[
    Path | None, typer.Option("--csv", writable=True, help="CSV file to write: a line per row.", show_default=False)
]
MaxSeconds = Annotated[
    float, typer.Option(help="Maximum seconds of sampling per row; a row stopped by it is labelled not converged.", min=0)
]
HtmlOut = Annotated[Path | None, typer.Option("--html", writable=True, help="HTML page to write.", show_default=False)]
Size = Annotated[str, typer.Option(help="Height x width.")]
Batch = Annotated[int, typer.Option(help="Images per batch.", min=1)]
FailSlower = Annotated[
    str | None,
    typer.Option(metavar="PERCENT", help="Exit 1 if slower by more than this, such as 5%; 4 if undecided.", show_default=False),
]


def _gate(rulings: Sequence[Ruling]) -> None:
    """Print the rulings and end with their exit code."""
    from benchmarks.gate import exit_code

    for one in rulings:
        colour = {"passed": "green", "slower": "red"}.get(one.outcome, "yellow")
        screen.print(f"[{colour}]{one.outcome}[/]: {literal(one.name)}: {literal(one.why)}", soft_wrap=True)
    raise typer.Exit(exit_code(rulings, failed=FAILED, undecided=UNDECIDED))


@app.command("bench", epilog="See also mimo compare (two files), mimo sweep (sizes and batches) and mimo table (networks).")
def bench_command(
    targets: Targets = None,
    against: Against = None,
    sync: Annotated[
        bool,
        typer.Option("--sync/--no-sync", help="Measure until the device has finished; --no-sync shows the asynchronous time."),
    ] = True,
    e2e: Annotated[bool, typer.Option("--e2e", help="Add end-to-end rows: from host array to host array, any size.")] = False,
    throughput: Annotated[
        int,
        typer.Option(
            "--throughput",
            help="Add rows with this many restorations in flight, each on its own engine.",
            min=0,
            max=64,
            show_default=False,
        ),
    ] = 0,
    cuda_graph: Annotated[
        bool, typer.Option("--cuda-graph", help="Add rows with the network captured as a CUDA graph and replayed.")
    ] = False,
    cold_cache: Annotated[
        bool, typer.Option("--cold-l2", help="Add rows with the last-level cache emptied before each sample.")
    ] = False,
    size: Size = "720x1280",
    batch: Batch = 1,
    engine: OneRuntime = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    images: Images = None,
    min_samples: MinSamples = None,
    max_seconds: MaxSeconds = 60.0,
    limits: Annotated[
        bool, typer.Option("--limits/--no-limits", help="Also measure the peaks of this device, for the roofline.")
    ] = True,
    baseline: Annotated[
        Path | None,
        typer.Option(help="An earlier --json to compare with; needs --fail-slower.", show_default=False),
    ] = None,
    fail_slower: FailSlower = None,
    json_out: SamplesOut = None,
    csv_out: RowsOut = None,
    html_out: HtmlOut = None,
) -> None:
    """Measure latency, synchronised: warm-up, then samples until the median is known to 1 percent."""
    from benchmarks.bench import bench
    from benchmarks.gate import against_baseline, allowed_fraction
    from benchmarks.measurement import StoppingRule
    from benchmarks.report import bench_remarks, bench_table
    from benchmarks.reports import BenchReport
    from benchmarks.schema import read_report
    from benchmarks.targets import bench_jobs, models_of, shape_from, variants
    from engines.sample_images import list_photographs
    from mimo.bundled import PHOTOGRAPHS

    if (baseline is None) != (fail_slower is None):
        raise MimoError("--baseline and --fail-slower belong together: give both or neither.")
    allowed = allowed_fraction(fail_slower) if fail_slower is not None else 0.0
    before = read_report(baseline) if baseline is not None else None
    if before is not None and not isinstance(before, BenchReport):
        raise MimoError(f"{baseline} is a report of another command: give one that mimo bench --json wrote.")
    shape = shape_from(size, batch)
    photographs = list_photographs(images or PHOTOGRAPHS)
    refused: list[tuple[Path, ArtifactError]] = []
    jobs = variants(
        bench_jobs(targets, against, engine, precision, chosen_threads(threads, models_of(targets or ())), refused=refused),
        e2e=e2e,
        throughput=throughput,
        cuda_graph=cuda_graph,
        cold_cache=cold_cache,
    )
    _check_reports(json_out, csv_out, html_out, [*(job.path for job in jobs), against, images])
    rule = StoppingRule(max_seconds=max_seconds, min_samples=min_samples)
    with working("measuring") as say:
        report = bench(jobs, shape, photographs, rule, limits=limits, json_out=json_out, progress=say)
    screen.print(bench_table(report, sync=sync))
    for line in bench_remarks(report.rows):
        screen.print(line, soft_wrap=True)
    _write_report(report, None, csv_out, html_out)
    for path, error in refused:
        report_failure(str(path), str(error))
    if refused or not any(row.summary for row in report.rows):
        raise typer.Exit(FAILED)
    if before is not None:
        _gate(against_baseline(report, before, allowed))


Target = Annotated[
    str, typer.Argument(metavar="FILE[@RUNTIME]", help="A checkpoint, an ONNX file, an engine or a triton:// URL.")
]


@app.command("compare")
def compare_command(
    a: Target,
    b: Target,
    size: Size = "720x1280",
    batch: Batch = 1,
    precision: Precision = "auto",
    threads: Threads = None,
    images: Images = None,
    max_seconds: Annotated[float, typer.Option(help="Maximum seconds of sampling for each of the two.", min=0)] = 60.0,
    fail_slower: FailSlower = None,
    json_out: SamplesOut = None,
    csv_out: RowsOut = None,
    html_out: HtmlOut = None,
) -> None:
    """Compare two files, called in turn: is B faster than A, slower, or the same?"""
    from benchmarks.bench import compare_jobs
    from benchmarks.compare import RoundsRule
    from benchmarks.gate import allowed_fraction, of_comparison
    from benchmarks.report import comparison_text
    from benchmarks.targets import models_of, one_job, shape_from
    from engines.sample_images import list_photographs
    from mimo.bundled import PHOTOGRAPHS

    allowed = allowed_fraction(fail_slower) if fail_slower is not None else None
    shape = shape_from(size, batch)
    photographs = list_photographs(images or PHOTOGRAPHS)
    count = chosen_threads(threads, models_of([a, b]))
    job_a, job_b = (one_job(target, precision, count) for target in (a, b))
    _check_reports(json_out, csv_out, html_out, [job_a.path, job_b.path, images])
    with working("comparing") as say:
        rule = RoundsRule(max_seconds=2 * max_seconds)
        report = compare_jobs(job_a, job_b, shape, photographs, rule, progress=say)
    for line in comparison_text(report):
        screen.print(line, soft_wrap=True)
    _write_report(report, json_out, csv_out, html_out)
    if allowed is not None:
        _gate([of_comparison(report, allowed)])


@app.command("sweep")
def sweep_command(
    target: Target,
    size: Annotated[
        str | None,
        typer.Option(help="Comma-separated sizes, such as 256x256,720x1280.", show_default=False),
    ] = None,
    batch: Annotated[str | None, typer.Option(help="Comma-separated batch sizes; by default 1,2.", show_default=False)] = None,
    precision: Precision = "auto",
    threads: Threads = None,
    images: Images = None,
    min_samples: MinSamples = None,
    max_seconds: MaxSeconds = 60.0,
    json_out: SamplesOut = None,
    csv_out: RowsOut = None,
    html_out: HtmlOut = None,
) -> None:
    """Measure one file over sizes and batches, and say which profile and which tile to choose."""
    from benchmarks.measurement import StoppingRule
    from benchmarks.report import sweep_table
    from benchmarks.sweep import BATCHES, SIZES, sweep
    from benchmarks.targets import batch_from, models_of, one_job, shape_from
    from engines.sample_images import list_photographs
    from mimo.bundled import PHOTOGRAPHS

    shapes = [
        shape_from(side, batch_from(count))
        for side in (size.split(",") if size else SIZES)
        for count in (batch.split(",") if batch else BATCHES)
    ]
    rule = StoppingRule(max_seconds=max_seconds, min_samples=min_samples)
    photographs = list_photographs(images or PHOTOGRAPHS)
    job = one_job(target, precision, chosen_threads(threads, models_of([target])))
    _check_reports(json_out, csv_out, html_out, [job.path, images])
    with working("measuring") as say:
        report = sweep(job, shapes, photographs, rule, json_out=json_out, progress=say)
    screen.print(sweep_table(report))
    for sentence in report.advice:
        screen.print(f"- {literal(sentence)}", soft_wrap=True)
    _write_report(report, None, csv_out, html_out)


@app.command("table")
def table_command(
    size: Annotated[str, typer.Option(help="Height x width.")] = "720x1280",
    runtime: Annotated[Runtime, typer.Option(help="Runtime for all networks.")] = "pytorch",
    device: Annotated[
        DeviceName | None,
        typer.Option(help="Device for all networks; by default the CPU, and a GPU for TensorRT.", show_default=False),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Measure only this network, such as nafnet-32; may be repeated.", show_default=False),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NETWORK=FILE",
            help="File with a network's public weights; without one, a network runs untrained, which takes as long.",
            show_default=False,
        ),
    ] = None,
    check_export: Annotated[
        bool,
        typer.Option(
            "--check-export/--no-check-export", help="Also take each network through export, FP16 and engine building."
        ),
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

    from benchmarks.measurement import StoppingRule
    from benchmarks.networks import networks
    from benchmarks.report import networks_table
    from benchmarks.table import table
    from benchmarks.targets import shape_from
    from engines.sample_images import list_photographs
    from mimo.bundled import PHOTOGRAPHS
    from mimo.terminal import need_torch

    need_torch("building the networks", "torch")

    if runtime == "triton":
        raise MimoError("--runtime triton: the networks of the table are files here, and Triton serves its own: leave it out.")
    devices = runtime_info(runtime).devices
    if device is not None and device not in devices:
        others = " or ".join(row.name for row in RUNTIMES if device in row.devices)
        raise MimoError(f"{runtime} does not run on {device}: leave --device {device} out, or use --runtime {others}.")
    given = {}
    for entry in weights or []:
        name, equals, path = entry.partition("=")
        if not equals:
            raise MimoError(f"--weights {entry}: write NETWORK=FILE, such as nafnet-32=NAFNet-GoPro-width32.pth.")
        given[name] = Path(path)
    _check_reports(json_out, csv_out, html_out, [*given.values(), images])
    chosen = networks(given)
    if only:
        if unknown := sorted(set(only) - {network.name for network in chosen}):
            known = ", ".join(dict.fromkeys(network.name for network in chosen))
            raise MimoError(f"--only {unknown[0]}: there is no such network in the table: use one of {known}.")
        chosen = tuple(network for network in chosen if network.name in only)
    rule = StoppingRule(max_seconds=max_seconds, min_samples=min_samples)
    with TemporaryDirectory() as folder, working("measuring") as say:
        report = table(
            chosen,
            shape_from(size, 1),
            list_photographs(images or PHOTOGRAPHS),
            rule,
            Path(folder),
            runtime=runtime,
            device=device or devices[0],
            check_export=check_export,
            json_out=json_out,
            progress=say,
        )
    screen.print(networks_table(report))
    for row in report.rows:
        if row.reason:
            screen.print(f"[yellow]{literal(row.network)}: {literal(row.reason)}[/yellow]", soft_wrap=True)
    _write_report(report, None, csv_out, html_out)
    if all(row.summary is None for row in report.rows):
        raise typer.Exit(FAILED)


@app.command("doctor")
def doctor_command(json_out: JsonOut = None) -> None:
    """Show what this machine can do: processor, GPU, runtimes and their versions."""
    from benchmarks.machine import describe_machine
    from mimo.files import write_json

    machine = describe_machine()
    tools = machine.pop("tools")
    print_facts({key.removesuffix("_bytes").replace("_", " "): plain(value, key) for key, value in machine.items()})
    table = Table("runtime", "here", "version or cure", box=None, pad_edge=False)
    runtimes: dict[str, tuple[bool, str]] = {}
    for row in RUNTIMES:
        version = next((tools[name] for name in row.distributions if name in tools), None)
        runtimes[row.name] = (version is not None, version or row.install)
    if json_out is not None:
        found = {name: {"here": works, "version_or_cure": detail} for name, (works, detail) in runtimes.items()}
        write_json(json_out, machine | {"tools": tools, "runtimes": found})
    for name, (works, detail) in runtimes.items():
        table.add_row(name, "[green]yes[/green]" if works else "[yellow]no[/yellow]", literal(detail))
    screen.print(table, soft_wrap=True)


def _check_reports(json_out: Path | None, csv_out: Path | None, html_out: Path | None, inputs: Sequence[Path | None]) -> None:
    """Before any work; the paths that stand in texts (``FILE@RUNTIME``) are seen here only, and what is read beside them."""
    from mimo.artifact import verification_of
    from mimo.outputs import check_outputs

    verifications = [verification_of(path) for path in inputs if path is not None]
    check_outputs({"--json": json_out, "--csv": csv_out, "--html": html_out}, [*inputs, *verifications])


@app.command("schema")
def schema_command(name: Annotated[SchemaName, typer.Argument(help="The command whose --json is described.")]) -> None:
    """Print the JSON schema of what a command writes with --json."""
    import json

    if name == "verify":
        from engines.verification_report import verification_schema

        schema = verification_schema()
    elif name == "eval":
        from engines.evaluation_report import evaluation_schema

        schema = evaluation_schema()
    else:
        from benchmarks.schema import report_schema

        schema = report_schema(name)
    typer.echo(json.dumps(schema, indent=2))


def _write_report(report: Report, json_out: Path | None, csv_out: Path | None, html_out: Path | None) -> None:
    """Write ``report`` to the files that were asked for."""
    from benchmarks.csv_report import report_csv
    from mimo.files import write_json, write_text

    if json_out is not None:
        write_json(json_out, report.to_json())
    if csv_out is not None:
        write_text(csv_out, report_csv(report))
    if html_out is not None:
        from benchmarks.pages.page import write_page

        write_page(html_out, report)
