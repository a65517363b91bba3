"""Commands of this room: serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engines.options import Device, Engine, Precision
from mimo.errors import MimoError
from mimo.terminal import Verbosity, remark, say

app = typer.Typer()


@app.command("serve")
def serve_command(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="A checkpoint, an ONNX file or an engine; by default the weights that ship with mimo.", show_default=False
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; by default this machine alone reaches it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one, and says which.", min=0, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(help="Processes, each with an engine of its own.", min=1, max=256)] = 1,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads of each worker on the CPU; by default the cores shared out.", show_default=False, min=1),
    ] = None,
    engine: Engine = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    max_megapixels: Annotated[float, typer.Option(help="Of a photograph.", min=0.001, max=200)] = 50.0,
    max_megabytes: Annotated[float, typer.Option(help="Of a request's body, in MiB.", min=0.001, max=4096)] = 128.0,
    max_queue: Annotated[int, typer.Option(help="Photographs that wait.", min=1, max=10_000)] = 16,
    max_connections: Annotated[int, typer.Option(help="Open at once.", min=1, max=10_000)] = 128,
    timeout: Annotated[float, typer.Option(help="Seconds for a photograph, its wait included.", min=0.1, max=86_400)] = 120.0,
    token_file: Annotated[
        Path | None,
        typer.Option(help="A file with the token that every request must carry.", show_default=False),
    ] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Let anybody who reaches --host in.")] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Photographs over HTTP, and a page for people: POST /v1/deblur, and / in a browser."""
    from engines.runtimes.threads import threads_for
    from engines.serving.run import address_of, check_binding, check_installed, listening, model_facts, read_token, serve
    from engines.serving.settings import Limits, Opened
    from mimo.bundled import given_model

    check_installed()
    token = read_token(token_file)
    if no_auth and token is not None:
        raise MimoError("--no-auth and --token-file exclude each other: leave one out.")
    check_binding(host, token, no_auth)
    # Without a word the graph, which starts sooner.
    source = given_model(model, "onnxruntime" if engine == "auto" else engine)
    model_facts(source)  # a file that is none is known before anything starts
    each = threads or max(1, threads_for().count // workers)
    body = int(max_megabytes * 2**20)
    limits = Limits(
        pixels=int(max_megapixels * 1e6),
        body=body,
        held=4 * body,
        queue=max_queue,
        seconds=timeout,
        connections=max_connections,
    )
    listener = listening(host, port)
    address = address_of(listener)

    def started() -> None:
        say(f"serving {source.name} at {address} with {workers} x {each} threads; Ctrl-C ends it")
        if open_browser:
            import webbrowser

            if not webbrowser.open(address):
                remark(f"no browser could be opened: open {address} yourself.")

    with listener:
        serve(
            listener,
            Opened(source, engine, device, precision, each),
            workers,
            limits,
            token=token,
            any_host=no_auth,
            started=started,
            ready=lambda: remark("ready: the first photograph will not wait for a warm-up"),
            verbose=Verbosity.verbose,
        )
