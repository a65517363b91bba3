"""Commands of this room: weights, inspect, lineage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from mimo.bundled import given_checkpoint, given_file
from mimo.served import ServedModel, model_path
from mimo.spec import Shape
from mimo.terminal import FAILED, NOT_RUN, JsonOut, need_torch, notes, print_facts, say, screen
from mimo.wording import literal

if TYPE_CHECKING:
    from mimo.artifact import Artifact

app = typer.Typer()

weights_app = typer.Typer(help="The weights that the authors published, and averages of one's own.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")


@weights_app.command("list")
def weights_list_command() -> None:
    """List the published weights."""
    from mimo.networks.pretrained import PUBLISHED

    table = Table("name", "model", "trained on", "from", box=None, pad_edge=False)
    for entry in PUBLISHED.values():
        table.add_row(entry.name, entry.spec_name, entry.data, entry.url)
    screen.print(table, soft_wrap=True)


@weights_app.command("fetch")
def weights_fetch_command(
    name: Annotated[str, typer.Argument(help="One of mimo weights list.")],
    out: Annotated[Path, typer.Option(file_okay=False, writable=True, help="The folder for the file.")] = Path(),
) -> None:
    """Download published weights, convert them to safetensors, and check that they are what came the first time."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from mimo.networks.pretrained import fetch, named

    entry = named(name)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=notes, transient=True) as bar:
        task = bar.add_task(entry.name, total=None)
        path = fetch(entry, out, lambda done, total: bar.update(task, completed=done, total=total))
    screen.print(f"[bold]{literal(str(path))}[/bold]  {entry.spec_name}, trained on {entry.data}", soft_wrap=True)


@weights_app.command("average")
def weights_average_command(
    checkpoints: Annotated[list[Path], typer.Argument(metavar="CHECKPOINT...", help="Two or more of the same network.")],
    out: Annotated[Path, typer.Option(writable=True, help="The safetensors file to write.")],
    half: Annotated[bool, typer.Option("--half", help="Store float16.")] = False,
) -> None:
    """The mean of several weights, often better than each where they began at the same ones."""
    need_torch("averaging", "torch")
    from mimo.networks.checkpoint import average_checkpoints

    average = average_checkpoints(checkpoints, out, half=half)
    screen.print(
        f"[bold]{literal(str(out))}[/bold]  {average.spec.name}, the mean of {len(checkpoints)} checkpoints", soft_wrap=True
    )


@app.command("inspect")
def inspect_command(
    file: Annotated[Path, typer.Argument(help="A checkpoint, an ONNX file, an engine or a triton:// URL.", parser=model_path)],
    json_out: JsonOut = None,
) -> None:
    """Describe a file: network, lineage, precision, inputs and outputs, cost."""
    from mimo.files import write_json
    from mimo.kinds import kind_of

    file = given_file(file)
    facts = _checkpoint_facts(file) if kind_of(file) == "checkpoint" else _artifact_facts(file)
    if json_out is not None:
        write_json(json_out, facts)
    print_facts(facts)


@app.command("lineage")
def lineage_command(
    file: Annotated[Path, typer.Argument(help="An engine, an ONNX file or a checkpoint.")], json_out: JsonOut = None
) -> None:
    """Walk a file back to its training run, and say what was compared.

    Engine, graph, checkpoint, training run. Exit code 0 when all that could be compared agrees, 1 when something has changed,
    3 when something it was made from is not found.
    """
    from dataclasses import asdict

    from mimo.files import write_json
    from mimo.lineage import walk

    steps = list(walk(given_file(file)))
    if json_out is not None:
        write_json(json_out, [asdict(step) for step in steps])
    for step in steps:
        say(f"{step.outcome:<18}  {step.what}: {step.compared}")
    outcomes = {step.outcome for step in steps}
    raise typer.Exit(FAILED if "changed" in outcomes else NOT_RUN if "not found" in outcomes else 0)


def _checkpoint_facts(file: Path) -> dict[str, str]:
    need_torch("a checkpoint", "torch", ", or use an ONNX file made elsewhere")
    source = given_checkpoint(file)
    spec = source.spec
    parameters = sum(tensor.numel() for tensor in source.state.values())
    return {
        "checkpoint": str(source.path),
        "model": f"{spec}, {parameters:,} parameters",
        "sha256": source.sha256,
        **({"read from": " ".join(source.remarks)} if source.remarks else {}),
        **source.lineage,
        "tied": "weights and lineage are those that were written together"
        if source.tied
        else "no: nothing in the file says that its lineage belongs to these weights",
    }


def _artifact_facts(file: Path) -> dict[str, str]:
    from mimo.artifact import load_onnx, open_artifact, sidecar_of

    if isinstance(file, ServedModel):
        from engines.runtimes.opening import artifact_at

        return _facts(artifact_at(file))
    artifact = open_artifact(file)
    facts = _facts(artifact)
    if not sidecar_of(file).is_file():
        facts["sidecar"] = "none: no hash says whether the file has changed since it was made"
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
    return facts


def _facts(artifact: Artifact) -> dict[str, str]:
    spec = artifact.spec
    facts = {
        artifact.format: str(artifact.path),
        "model": str(spec),
        "precision": f"{artifact.precision}, input and output {artifact.io}",
        "sha256": artifact.sha256,
        "checkpoint": artifact.checkpoint_sha256,
    }
    if artifact.parent:
        facts["made from"] = f"{artifact.parent} ({(artifact.parent_sha256 or '')[:12]})"
    if artifact.receipt:
        facts["receipt"] = str(artifact.receipt)
    if artifact.kept_float:
        facts["not in INT8"] = "; ".join(f"{name} ({why})" for name, why in artifact.kept_float.items())
    if artifact.shapes:
        facts["profile"] = str(artifact.shapes)
    if artifact.compute_capabilities:
        facts["built for"] = ", ".join(artifact.compute_capabilities)
    return facts | {"tools": ", ".join(f"{name} {version}" for name, version in artifact.tools.items())}
