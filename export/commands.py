"""Commands of this room: export, adopt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, assert_never

import typer

from mimo.bundled import given_checkpoint
from mimo.errors import MimoError
from mimo.terminal import need_torch, notes, print_artifact, screen, working
from mimo.wording import literal

app = typer.Typer()

Target = Literal["onnx", "openvino"]


@app.command("export")
def export_command(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            help="A checkpoint of any network mimo knows, or mimo-unet-small for those of ours; by default mimo-unet, "
            "which ships with mimo.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[Target, typer.Option("--to", help="The format to write.")] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(writable=True, help="The file to write; by default <model>.onnx or .xml.", show_default=False),
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="A typed FP16 graph, as TensorRT 11 wants it.")] = False,
    io_fp16: Annotated[bool, typer.Option("--io-fp16", help="With --fp16: input and output float16 too.")] = False,
    all_scales: Annotated[bool, typer.Option("--all-scales", help="Also the quarter- and half-size outputs.")] = False,
) -> None:
    """Checkpoint -> ONNX or OpenVINO IR with dynamic batch, height and width, checked against PyTorch before it is written."""
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

            path = out or Path(f"{source.spec.name}{'.fp16' if fp16 else ''}.onnx")
            check_outputs({"--out": artifact_files(path)}, [source.path])
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


@app.command("adopt")
def adopt_command(
    graph: Annotated[Path, typer.Argument(help="An ONNX file from elsewhere: an RGB image in, one of the same size out.")],
    out: Annotated[
        Path | None,
        typer.Option(writable=True, help="The file to write; by default <name>.adopted.onnx here.", show_default=False),
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
