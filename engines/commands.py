"""Commands of this room: build-engine, verify, deblur, eval, score."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from engines.options import (
    Artifacts,
    CsvOut,
    Device,
    Engine,
    OneRuntime,
    PageOut,
    Precision,
    Protocol,
    Threads,
    chosen_threads,
)
from engines.runtimes.table import TensorRT
from mimo.bundled import given_model
from mimo.errors import ArtifactError
from mimo.int8_options import Calibrate, KeepFloat, MaxPsnrLoss, gate, refuse_graph
from mimo.served import model_path
from mimo.spec import Shape, ShapeRange
from mimo.terminal import (
    FAILED,
    NOT_RUN,
    Against,
    Images,
    JsonOut,
    artifacts_here,
    bar,
    notes,
    print_artifact,
    report_failure,
    say,
    screen,
    working,
)
from mimo.wording import literal

if TYPE_CHECKING:
    from engines.evaluation import Evaluation
    from engines.evaluation import Step as PictureStep

app = typer.Typer()

EnsembleChoice = Literal["none", "rot4"]


@app.command("build-engine")
def build_engine_command(
    onnx: Annotated[
        Path | None, typer.Argument(help="The ONNX file; by default the FP32 one in the current directory.", show_default=False)
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Compute in FP16; an FP32 graph is converted first.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Convolutions in INT8 as far as the quality holds, FP16 between.")
    ] = False,
    calibrate: Calibrate = None,
    max_psnr_loss: MaxPsnrLoss = None,
    keep_float: KeepFloat = None,
    runtime: Annotated[TensorRT, typer.Option(help="tensorrt-rtx builds without a GPU; tensorrt needs one.")] = "tensorrt-rtx",
    minimum: Annotated[str, typer.Option("--min", help="Smallest batch x height x width.")] = "1x64x64",
    optimum: Annotated[str, typer.Option("--opt", help="The shape to tune for.")] = "1x720x1280",
    maximum: Annotated[str, typer.Option("--max", help="Largest batch x height x width.")] = "4x2160x3840",
    compute_capability: Annotated[
        str | None, typer.Option(help="GPUs to build for, such as 8.6,8.9 or current (tensorrt-rtx).", show_default=False)
    ] = None,
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Accept convolutions in another precision than the graph.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            writable=True, help="The plan to write; by default <model>[.fp16].engine beside the ONNX file.", show_default=False
        ),
    ] = None,
) -> None:
    """ONNX -> TensorRT engine, with a receipt of the precision every convolution computes in."""
    from engines.build import build_engine
    from engines.folder import only_fp32_onnx
    from mimo.artifact import artifact_files, open_artifact
    from mimo.outputs import check_outputs

    refused: list[Path] = []
    low, middle, high = (Shape.parse(text) for text in (minimum, optimum, maximum))
    source = open_artifact(onnx) if onnx else only_fp32_onnx(refused)
    shapes = ShapeRange(low, middle, high, source.spec.size_multiple)
    chosen = gate(int8, calibrate, max_psnr_loss, keep_float)
    refuse_graph(source, fp16=fp16, int8=int8, chosen=chosen)
    stem = source.path.name.removesuffix(".onnx").removesuffix(".fp16").removesuffix(".int8")
    between = ".int8.fp16" if int8 else ".fp16" if fp16 else ""
    path = out or source.path.with_name(f"{stem}{between}.engine")
    converted = source.path.with_name(f"{stem}{between}.onnx") if between and source.precision == "fp32" else None
    check_outputs(
        {f"the {'INT8' if int8 else 'FP16'} graph": artifact_files(converted), "--out": artifact_files(path)}, [source.path]
    )
    if converted is not None and int8:
        from export.to_int8 import convert_to_int8, search_cache

        with working("INT8") as progress:
            source = convert_to_int8(source, converted, half=True, cache=search_cache(), progress=progress, **chosen)
        print_artifact(source)
    elif converted is not None:
        from export.to_fp16 import convert_to_fp16

        with working(f"converting {source.path.name} to FP16"):
            source = convert_to_fp16(source, converted)
        print_artifact(source)
    targets = tuple(part.strip() for part in compute_capability.split(",")) if compute_capability else ()
    with working(f"building {path.name} with {runtime}"):
        artifact = build_engine(
            source, path, runtime=runtime, shapes=shapes, compute_capabilities=targets, allow_mixed=allow_mixed
        )
    print_artifact(artifact)
    if refused:
        raise typer.Exit(FAILED)


@app.command("verify")
def verify_command(
    artifacts: Artifacts = None,
    against: Against = None,
    images: Images = None,
    engine: OneRuntime = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    size: Annotated[str, typer.Option(help="Optimum size to verify an ONNX file at.")] = "720x1280",
    seed: Annotated[
        int | None,
        typer.Option(help="Draw the small shapes of an earlier report again.", min=0, max=2**32 - 1, show_default=False),
    ] = None,
    json_out: Annotated[
        Path | None,
        typer.Option("--json", writable=True, help="Write the whole report to this JSON file, too.", show_default=False),
    ] = None,
) -> None:
    """Compare artifacts with PyTorch FP32 on real photographs. Exit code 1: not passed; 3: passed, but something not run."""
    from engines.folder import with_room_for_a_report
    from engines.tables import verification_remarks, verification_table
    from engines.verification import write_verifications
    from engines.verify import verify
    from mimo.artifact import verification_of
    from mimo.bundled import WEIGHTS
    from mimo.files import write_json
    from mimo.outputs import check_outputs

    optimum = Shape.parse(size)
    refused: list[tuple[Path, ArtifactError]] = []
    paths = with_room_for_a_report(artifacts or artifacts_here(), refused)
    reports = [verification_of(path) for path in paths]
    check_outputs({"--json": json_out, "the report beside an artifact": reports}, [*paths, against or WEIGHTS, images])
    count = chosen_threads(threads)
    with working("verifying") as progress:
        results = verify(
            paths,
            against=against,
            images=images,
            optimum=optimum,
            runtime=engine,
            precision=precision,
            threads=count,
            seed=seed,
            refused=refused,
            progress=progress,
        )
    write_verifications(results)
    if json_out:
        write_json(json_out, [one.to_json() for one in results])
    screen.print(verification_table(results))
    for line in verification_remarks(results):
        screen.print(line, soft_wrap=True)
    for path, error in refused:
        report_failure(str(path), str(error))
    statuses = {one.status for one in results}
    raise typer.Exit(FAILED if "failed" in statuses or refused else NOT_RUN if "not run" in statuses else 0)


@app.command("deblur")
def deblur_command(
    photographs: Annotated[list[Path], typer.Argument(help="Photographs and folders of them.", show_default=False)],
    out: Annotated[Path, typer.Option(file_okay=False, writable=True, help="The folder for the results.")],
    model: Annotated[
        Path | None,
        typer.Option(
            help="A checkpoint, an ONNX file, an engine or a triton:// URL; by default the bundled weights.",
            show_default=False,
            parser=model_path,
        ),
    ] = None,
    engine: Engine = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
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
    strength: Annotated[
        float,
        typer.Option(
            help="Strength of the effect: 1 is the full result, 0 the photograph itself, in between a mixture.", min=0, max=1
        ),
    ] = 1.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Restore photographs again whose results exist.")] = False,
    html_out: PageOut = None,
) -> None:
    """Photographs in, sharper photographs out: all that a file carries besides its pixels is kept."""
    from engines.gallery import Gallery
    from engines.photographs import Step, deblur_photographs
    from engines.runtimes.opening import open_engine
    from mimo.outputs import check_outputs

    check_outputs({"--html": html_out}, [model, *photographs])
    gallery = Gallery()
    # Without a word the graph, which starts sooner.
    source = given_model(model, "onnxruntime" if engine == "auto" else engine)
    with working(f"loading {source.name}"):
        runner = open_engine(source, engine, device, precision=precision, threads=chosen_threads(threads, [source]))
    announced: list[Path] = []
    with runner, bar() as progress:

        def show(step: Step) -> None:
            if not (step.exact or announced):
                announced.append(step.source)
                announce = f"{step.source.name}: tiles with less around them than {source.name} looks at are an "
                announce += "approximation, whose error is measured"
                notes.print(f"[yellow]note[/yellow] {literal(announce)}", soft_wrap=True)
            progress(step.source.name, step.index + step.tile / step.tiles, step.count)

        report = deblur_photographs(
            runner,
            photographs,
            out,
            tile=tile,
            context=context,
            strength=strength,
            overwrite=overwrite,
            progress=show,
            show=gallery.add_photograph if html_out is not None else None,
        )
    if html_out is not None:
        if count := len(report.skipped):
            notes.print(f"[yellow]note[/yellow] the page leaves out {count} done before: --overwrite adds them", soft_wrap=True)
        how = {"model": source.name, "engine": runner.name, "strength": f"{strength:g}"}
        gallery.write_photographs(html_out, len(report.done), f"Deblurred by {source.name}", how)
    if report.left_out:
        count, names = len(report.left_out), ", ".join(path.name for path in report.left_out[:3])
        more = ", ..." if count > 3 else ""
        which = f"left out: {count} of formats or suffixes that are not read: {names}{more}"
        notes.print(f"[yellow]note[/yellow] {literal(which)}", soft_wrap=True)
    if report.seams is not None:
        notes.print(f"[yellow]note[/yellow] {literal(str(report.seams))}", soft_wrap=True)
    for note in report.notes:
        notes.print(f"[yellow]note[/yellow] {literal(str(note))}", soft_wrap=True)
    for failure in report.failed:
        report_failure(str(failure.source), failure.reason)
    say(
        f"{len(report.done)} done, {len(report.skipped)} there already, {len(report.failed)} not done, "
        f"in {out} ({runner.name}, {report.seconds:.1f} s of inference)"
    )
    if report.failed:
        raise typer.Exit(FAILED)


@app.command("eval")
def eval_command(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="A checkpoint, an ONNX file, an engine or a triton:// URL; by default the bundled weights.",
            show_default=False,
            parser=model_path,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A folder with blur/ and sharp/, or a prepared dataset; by default the bundled photographs.",
            show_default=False,
        ),
    ] = None,
    ensemble: Annotated[EnsembleChoice, typer.Option(help="rot4: the mean over four rotations, as in MIMO-UNet++.")] = "none",
    protocol: Protocol = "mimo",
    engine: Engine = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    json_out: JsonOut = None,
    csv_out: CsvOut = None,
    html_out: PageOut = None,
    save: Annotated[
        Path | None,
        typer.Option(file_okay=False, writable=True, help="A folder for the restored pictures.", show_default=False),
    ] = None,
) -> None:
    """PSNR and SSIM of a model by a named protocol: per picture, per scene and overall, the blurry input beside it."""
    from engines.evaluation import evaluate
    from engines.gallery import Gallery
    from engines.runtimes.opening import open_engine
    from mimo.bundled import PHOTOGRAPHS
    from mimo.outputs import check_outputs

    source = given_model(model, engine)
    check_outputs({"--json": json_out, "--csv": csv_out, "--html": html_out}, [source, data or PHOTOGRAPHS])
    with working(f"loading {source.name}"):
        runner = open_engine(source, engine, device, precision=precision, threads=chosen_threads(threads, [source]))
    gallery = Gallery()
    with runner, bar() as show:

        def progress(step: PictureStep) -> None:
            show(step.score.name, step.done, step.total)
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

    with bar() as show:
        result = score_folders(pred_dir, truth_dir, protocol, lambda step: show(step.score.name, step.done, step.total))
    _report_evaluation(result, json_out, csv_out)


def _report_evaluation(result: Evaluation, json_out: Path | None, csv_out: Path | None) -> None:
    """Print and write; exit code 1 when a picture has no number."""
    from engines.tables import evaluation_table
    from mimo.metrics import DESCRIPTIONS

    if json_out:
        result.write_json(json_out)
    if csv_out:
        result.write_csv(csv_out)
    screen.print(evaluation_table(result), soft_wrap=True)
    screen.print(f"protocol {result.protocol}: {DESCRIPTIONS[result.protocol]}", soft_wrap=True)
    if missing := result.without_number:
        notes.print(
            f"[yellow]without a number, and so the mean too: {literal(', '.join(missing[:5]))}[/yellow]", soft_wrap=True
        )
        raise typer.Exit(FAILED)
