"""Commands of this room: export, adopt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, assert_never

import typer

from mimo.bundled import given_checkpoint
from mimo.errors import MimoError
from mimo.int8_options import Calibrate, KeepFloat, MaxPsnrLoss, gate, int8_options
from mimo.terminal import FAILED, need_torch, notes, print_artifact, screen, working
from mimo.wording import literal

app = typer.Typer()

Target = Literal["onnx", "openvino", "triton"]
TritonBackend = Literal["tensorrt", "onnxruntime", "python-onnxruntime", "python-openvino"]
TritonDevice = Literal["cpu", "cuda"]


@app.command("export")
def export_command(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="A checkpoint of any network mimo knows, or the name of bundled weights; by default mimo-unet. "
            "For triton an ONNX file or a TensorRT engine, by default the FP32 ONNX file in the current directory.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[Target, typer.Option("--to", help="The format to write.")] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(writable=True, help="The file to write; by default <model>.onnx or .xml.", show_default=False),
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Write a strongly typed FP16 graph, as TensorRT 11 requires.")] = False,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="For onnx: INT8 convolutions (Q/DQ) as far as the quality holds; with --fp16 FP16 between."
        ),
    ] = False,
    calibrate: Calibrate = None,
    max_psnr_loss: MaxPsnrLoss = None,
    keep_float: KeepFloat = None,
    io_fp16: Annotated[bool, typer.Option("--io-fp16", help="With --fp16: make input and output float16, too.")] = False,
    all_scales: Annotated[bool, typer.Option("--all-scales", help="Also export the quarter- and half-size outputs.")] = False,
    repository: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, writable=True, help="For triton: the model repository to add the model to.", show_default=False
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="For triton: the model's name; by default the file's.", show_default=False)
    ] = None,
    backend: Annotated[
        TritonBackend | None,
        typer.Option(
            help="For triton: what runs it there; by default tensorrt for an engine, onnxruntime for ONNX.", show_default=False
        ),
    ] = None,
    device: Annotated[
        TritonDevice | None,
        typer.Option(help="For triton: where it runs there; by default cuda for an engine, else cpu.", show_default=False),
    ] = None,
    warm_up: Annotated[
        str | None,
        typer.Option(
            help="For triton: the shape it is warmed up with; by default an engine's optimum, else 720x1280.",
            show_default=False,
        ),
    ] = None,
    site_packages: Annotated[
        Path | None,
        typer.Option(
            help="For triton's python backends: the folder on the server with NumPy and the runtime in it.", show_default=False
        ),
    ] = None,
) -> None:
    """Checkpoint -> ONNX or OpenVINO IR with dynamic sizes, checked against PyTorch; ONNX or engine -> Triton repository."""
    for_triton = {
        "--repository": repository,
        "--name": name,
        "--backend": backend,
        "--device": device,
        "--warm-up": warm_up,
        "--site-packages": site_packages,
    }
    if to == "triton":
        options = {
            **_graph_options(out, fp16, io_fp16, all_scales),
            "--int8": int8,
            **int8_options(calibrate, max_psnr_loss, keep_float),
        }
        if given := [option for option, value in options.items() if value not in (None, False)]:
            raise MimoError(f"{given[0]} does not go with --to triton, which takes a finished file: leave it out.")
        _export_triton(checkpoint, repository, name, backend, device, warm_up, site_packages)
        return
    if given := [option for option, value in for_triton.items() if value is not None]:
        raise MimoError(f"{given[0]} is for --to triton: add that, or leave it out.")
    chosen = gate(int8, calibrate, max_psnr_loss, keep_float)
    if int8 and (to != "onnx" or io_fp16 or all_scales):
        option = f"--to {to}" if to != "onnx" else "--io-fp16" if io_fp16 else "--all-scales"
        raise MimoError(f"{option} does not go with --int8, which writes ONNX with one float32 output: leave one of them out.")
    if io_fp16 and not fp16:
        raise MimoError("--io-fp16 goes with --fp16: add it, or leave both out.")
    need_torch("a checkpoint", "torch", ", or use an ONNX file made elsewhere")
    with working("loading the checkpoint"):
        source = given_checkpoint(checkpoint)
    for remark in source.remarks:
        notes.print(literal(remark), soft_wrap=True)
    match to:
        case "onnx":
            from export.to_onnx import export_onnx
            from mimo.artifact import artifact_files
            from mimo.outputs import check_outputs

            path = out or Path(f"{source.spec.name}{'.int8' if int8 else ''}{'.fp16' if fp16 else ''}.onnx")
            base = path.with_name(f"{source.spec.name}.onnx") if int8 else None
            check_outputs({"the FP32 graph": artifact_files(base), "--out": artifact_files(path)}, [source.path])
            if base is not None:
                from export.to_int8 import convert_to_int8, search_cache

                with working(f"exporting {source.spec.name}"):
                    print_artifact(full := export_onnx(source, base))
                with working("INT8") as progress:
                    artifact = convert_to_int8(
                        full,
                        path,
                        half=fp16,
                        cache=search_cache(),
                        progress=progress,
                        **chosen,
                    )
                print_artifact(artifact)
                return
            with working(f"exporting {source.spec.name}"):
                artifact = export_onnx(
                    source, path, precision="fp16" if fp16 else "fp32", io_fp16=io_fp16, all_scales=all_scales
                )
        case "openvino":
            from export.to_openvino import export_openvino, files_named
            from mimo.artifact import artifact_files
            from mimo.outputs import check_outputs

            if all_scales:
                raise MimoError("--all-scales is for ONNX files: leave it out, or use --to onnx.")
            path = out or Path(f"{source.spec.name}{'.fp16' if fp16 else ''}.xml")
            check_outputs({"--out": [*artifact_files(path), *files_named(path)]}, [source.path])
            with working(f"exporting {source.spec.name}"):
                artifact = export_openvino(source, path, precision="fp16" if fp16 else "fp32", io_fp16=io_fp16)
        case _:
            assert_never(to)
    print_artifact(artifact)


def _graph_options(out: Path | None, fp16: bool, io_fp16: bool, all_scales: bool) -> dict[str, object]:
    return {"--out": out, "--fp16": fp16, "--io-fp16": io_fp16, "--all-scales": all_scales}


def _export_triton(
    file: Path | None,
    repository: Path | None,
    name: str | None,
    backend: TritonBackend | None,
    device: TritonDevice | None,
    warm_up: str | None,
    site_packages: Path | None,
) -> None:
    from engines.folder import only_fp32_onnx
    from export.triton import export_triton
    from mimo.artifact import open_artifact
    from mimo.bundled import given_model
    from mimo.kinds import kind_of
    from mimo.spec import Shape

    if repository is None:
        raise MimoError("--to triton needs a model repository: name its folder with --repository.")
    shape = Shape.parse(warm_up) if warm_up is not None else None
    refused: list[Path] = []
    path = given_model(file, "onnxruntime") if file is not None else None
    if path is not None and kind_of(path) == "checkpoint":
        raise MimoError(
            f"{path} is a checkpoint: export it first with mimo export --to onnx, and name the file that this writes."
        )
    source = open_artifact(path) if path is not None else only_fp32_onnx(refused)
    print_artifact(
        export_triton(
            source,
            repository,
            name=name,
            backend=backend,
            device=device,
            warm_up=shape,
            site_packages=site_packages,
        )
    )
    if refused:
        raise typer.Exit(FAILED)


@app.command("adopt")
def adopt_command(
    graph: Annotated[Path, typer.Argument(help="An ONNX file from elsewhere: an RGB image in, one of the same size out.")],
    out: Annotated[
        Path | None,
        typer.Option(
            writable=True,
            help="The file to write; by default <name>.adopted.onnx in the current directory.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """A graph without its checkpoint -> an artifact; what is made of it is compared with the graph itself."""
    from export.adopt import adopt
    from mimo.artifact import sidecar_of
    from mimo.outputs import check_outputs

    path = out or Path(f"{graph.name.removesuffix('.onnx')}.adopted.onnx")
    check_outputs({"--out": [path, sidecar_of(path)]}, [graph])
    with working(f"trying {graph.name}"):
        adopted = adopt(graph, path)
    for finding in adopted.findings:
        screen.print(f"  {literal(finding)}", soft_wrap=True)
    screen.print("  nobody has compared it with PyTorch: mimo verify compares what is made of it with itself", soft_wrap=True)
    print_artifact(adopted.artifact)
