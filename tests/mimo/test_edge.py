"""What holds for every command: read from the commands themselves, so that a new one is held to it too."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import cli
from mimo import edge
from mimo.edge import commands_of, name_of, path_settings
from mimo.errors import MimoError
from mimo.files import sha256_of
from mimo.wording import one_line
from tests.tiny import Tiny

ROOT = Path(__file__).parents[2]
COMMANDS = commands_of(typer.main.get_command(cli.app))

READ = {
    "export": "[FILE] --site-packages --calibrate", "lineage": "FILE", "adopt": "GRAPH",
    "build-engine": "ONNX --calibrate", "verify": "ARTIFACTS --against --images", "deblur": "PHOTOGRAPHS --model",
    "eval": "MODEL --data", "score": "PRED_DIR TRUTH_DIR", "bench": "--against --images --baseline", "compare": "--images",
    "sweep": "--images", "table": "--images", "inspect": "FILE", "weights average": "CHECKPOINT", "synthesize": "SHARP_DIR",
    "train": "--data --synthesize-from --resume --val --init", "prepare gopro": "SRC", "prepare realblur": "SRC",
    "prepare hide": "SRC", "serve": "MODEL --token-file",
}  # fmt: skip
"""Every path that a command reads. All others must be marked as written to."""


def paths(command: str) -> Iterator[tuple[str, Any]]:
    for parameter in COMMANDS[command].params:
        settings = path_settings(parameter)
        if settings is not None:
            yield name_of(parameter), settings


OUTPUTS = [
    (command, name, settings.file_okay) for command in COMMANDS for name, settings in paths(command) if settings.writable
]
TEXTS = [
    (command, name_of(parameter))
    for command in COMMANDS
    for parameter in COMMANDS[command].params
    if path_settings(parameter) is not None or (getattr(parameter, "metavar", None) or "").startswith("FILE")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_path_says_whether_it_is_read_or_written(command: str) -> None:
    read = {name for name, settings in paths(command) if not settings.writable}
    assert read == set(READ.get(command, "").split()), "mark a new output with writable=True, or name a new input in READ"


def start(*arguments: object, cwd: Path, prefix: str = "", **options: Any) -> Any:
    code = f"{prefix}\nimport sys, cli; sys.argv = ['mimo', *sys.argv[1:]]; cli.main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    command: list[str] = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=False, cwd=cwd, env=environment, timeout=120, **options)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mimo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in an empty folder: its exit code, its output and its errors, each in one line of words."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mimo", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capfd.readouterr()
        return int(stop.value.code or 0), out, err

    return run


def line(command: str, given: dict[str, object]) -> list[object]:
    """A command line with every required parameter, those of ``given`` among them."""
    arguments: list[object] = [*command.split()]
    defaults = {"NAME": "gopro", "--count": 1, "A": "a.onnx", "B": "b.onnx", "TARGET": "a.onnx"}
    for parameter in COMMANDS[command].params:
        name = name_of(parameter)
        if name not in given and not parameter.required:
            continue
        value = given.get(name, defaults.get(name, defaults.get(name.partition("[")[0], f"some-{name.strip('-').lower()}")))
        arguments += [name, value] if name.startswith("-") else [value]
    return arguments


@pytest.mark.parametrize(("command", "output", "is_file"), OUTPUTS)
def test_no_output_of_any_command_is_one_of_its_inputs(
    mimo: Run, tmp_path: Path, command: str, output: str, is_file: bool
) -> None:
    inputs = READ.get(command, "").split()
    for number, name in enumerate(inputs):
        for how in ("itself", "hard link", "symbolic link", "sidecar" if is_file else "itself"):
            here = tmp_path / f"{number}-{how}"
            here.mkdir(exist_ok=True)
            source, other = here / "input.x", here / "other.x"
            if is_file:
                source.write_text("precious")
                (here / "input.x.json").write_text("precious")
            else:
                source.mkdir(exist_ok=True)
            match how:
                case "hard link" if is_file:
                    other.hardlink_to(source)
                case "hard link" | "symbolic link":
                    if not other.is_symlink():
                        other.symlink_to(source)
                case "sidecar":
                    other = here / "input.x.json"
                case _:
                    other = source
            code, _, err = mimo(*line(command, {name: source, output: other}))
            assert code == 2, err
            assert output in err
            assert "would overwrite" in err or "is a folder that this command reads" in err
            assert not is_file or (source.read_text(), (here / "input.x.json").read_text()) == ("precious", "precious")


FILES = [(command, name) for command, name, is_file in OUTPUTS if is_file]


@pytest.mark.parametrize("command", sorted({command for command, _ in FILES if len([c for c, _ in FILES if c == command]) > 1}))
def test_no_two_outputs_of_a_command_are_one_file(mimo: Run, tmp_path: Path, command: str) -> None:
    first, second, *_ = (name for other, name in FILES if other == command)
    code, _, err = mimo(*line(command, {first: tmp_path / "report", second: tmp_path / "x" / ".." / "report"}))
    assert code == 2
    assert "are the same file" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["bench", "t.onnx@onnxruntime", "--json", "t.onnx"],
        ["bench", "t.onnx@onnxruntime", "--html", "t.onnx.json"],
        ["bench", "t.onnx@onnxruntime", "--json", "t.onnx.verification.json"],
        ["compare", "t.onnx@onnxruntime", "t.onnx@openvino", "--csv", "t.onnx"],
        ["sweep", "t.onnx@onnxruntime", "--json", "link.onnx"],
        ["table", "--weights", "nafnet-32=t.onnx", "--json", "t.onnx"],
        ["verify", "--against", "t.safetensors", "--json", "t.onnx"],
        ["verify", "t.onnx", "--against", "t.safetensors", "--json", "t.onnx.verification.json"],
        ["export", "t.safetensors", "--out", "t.safetensors"],
        ["build-engine", "t.onnx", "--fp16", "--out", "t.fp16.onnx"],
        ["eval", "t.safetensors", "--data", "pictures", "--csv", "pictures/blur/a.png"],
    ],
    ids=str,
)
def test_inputs_that_stand_in_texts_or_nowhere_are_seen_too(
    mimo: Run, tiny: Tiny, tmp_path: Path, arguments: list[str]
) -> None:
    for suffix, source in ((".onnx", tiny.onnx), (".safetensors", tiny.checkpoint)):
        (tmp_path / f"t{suffix}").write_bytes(source.read_bytes())
    (tmp_path / "t.onnx.verification.json").write_text("[]")
    (tmp_path / "link.onnx").symlink_to("t.onnx")
    for side in ("blur", "sharp"):
        (tmp_path / "pictures" / side).mkdir(parents=True)
        (tmp_path / "pictures" / side / "a.png").write_text("x")
    if "build-engine" in arguments or "verify" in arguments:
        (tmp_path / "link.onnx").unlink()
    before = {path: sha256_of(path) for path in tmp_path.rglob("*") if path.is_file()}
    code, _, err = mimo(*arguments)
    assert code == 2, err
    assert "would overwrite" in err or "are the same file" in err
    assert {path: sha256_of(path) for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("command", "name"), TEXTS)
def test_an_empty_path_is_an_error(mimo: Run, tmp_path: Path, command: str, name: str) -> None:
    code, _, err = mimo(*line(command, {name: ""}))
    assert code == 2, err
    assert "is empty: give a value, or leave it out" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("command", "name"), TEXTS)
def test_a_path_of_any_length_is_refused_in_a_line(mimo: Run, tmp_path: Path, command: str, name: str) -> None:
    for text in ("n" * 256, "/".join(["d" * 200] * 30), "a\nb" * 2000):
        code, _, err = mimo(*line(command, {name: text}))
        assert code in (1, 2), err
        assert len(err) < 2500
        assert "Traceback" not in err
    assert [path for path in tmp_path.iterdir() if not path.is_dir() or any(path.iterdir())] == []


@pytest.mark.parametrize("arguments", [["bench", "--batch", "9" * 5000], ["bench", "--size", "9" * 5000], ["x" * 5000]])
def test_a_message_quotes_a_line_at_most(mimo: Run, arguments: list[str]) -> None:
    code, _, err = mimo(*arguments)
    assert code == 2
    assert len(err) < 2500


# How a command ends.


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyError("what"), 70, "a defect of mimo, not of what you gave it (KeyError)"),
        (OSError("no number"), 70, "a defect of mimo"),
        (MimoError("a sentence."), 2, "mimo: a sentence."),
        (MimoError("a sentence:", "a detail", "a forged\nline"), 2, "a sentence:\na detail\na forged\\nline"),
        (MemoryError(), 2, "there is not enough memory: give --tile"),
        (PermissionError(13, "Permission denied", "some/file"), 2, "some/file could not be used: no permission"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(3), 3, ""),
    ],
    ids=repr,
)
def test_every_error_has_its_exit_code(capfd: pytest.CaptureFixture[str], error: BaseException, code: int, says: str) -> None:
    def fail() -> None:
        raise error

    assert edge.run(fail) == code
    err = capfd.readouterr().err
    assert says in err
    assert ("Traceback" in err) == (code == 70)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_takes_away_what_is_half_written(tmp_path: Path, number: signal.Signals) -> None:
    code = """
from pathlib import Path
from mimo import edge, files
import signal, sys, time
# A shell's background job and nohup hand down signals that are ignored.
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
def work():
    with files.atomic(Path("result")) as temporary:
        temporary.write_text("half of it")
        print("ready", flush=True)
        time.sleep(60)
sys.exit(edge.run(work))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number
    assert list(tmp_path.iterdir()) == []


# Standard streams.


def test_a_reader_that_goes_away_changes_no_exit_code(tmp_path: Path) -> None:
    for arguments, code in ((["weights", "list"], 0), (["--help"], 0), (["inspect", "missing.onnx"], 2)):
        reader, writer = os.pipe()
        os.close(reader)
        done = start(*arguments, cwd=tmp_path, stdout=writer)
        os.close(writer)
        assert (done.returncode, b"Traceback" in done.stderr, b"Broken" in done.stderr) == (code, False, False), done.stderr


def test_standard_error_without_a_reader_or_room_changes_nothing(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        assert start("inspect", "missing.onnx", cwd=tmp_path, stderr=full).returncode == 2
        assert b"mimo-unet" in start("-v", "weights", "list", cwd=tmp_path, stderr=full).stdout


@pytest.mark.parametrize("arguments", [["weights", "list"], ["--help"], ["--version"]])
def test_a_full_standard_output_is_one_sentence(tmp_path: Path, arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = start(*arguments, cwd=tmp_path, stdout=full)
    assert done.returncode == 2
    assert done.stderr.decode().strip() == (
        "mimo: standard output could not be written: the disk is full; free some space and run the command again."
    )


@pytest.mark.parametrize("number", [1, 2])
def test_closed_streams(tmp_path: Path, number: int) -> None:
    done = start("weights", "list", cwd=tmp_path, prefix="", preexec_fn=lambda: os.close(number))
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_an_encoding_without_the_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = start("inspect", "fehlt-ä.onnx", cwd=tmp_path)
    assert done.returncode == 2
    assert rb"fehlt-\xe4.onnx" in done.stderr


NAMES = [
    b"caf\xe9.onnx", b"a\nmimo: 5 done.onnx", b"\x1b[2J\x1b]0;title\x07.onnx", b"run:100:.onnx", b"[red]x[/red].onnx",
    b"[/].onnx", b"\xe2\x80\xaegnp.onnx", b"\xff\xfe.onnx", b"a\rb.onnx", b"back\\[slash.onnx", b"%s{0}.onnx",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=repr)
@pytest.mark.parametrize("command", ["inspect", "verify", "bench", "build-engine", "eval"])
def test_any_name_is_told_in_one_line(mimo: Run, name: bytes, command: str) -> None:
    code, _, err = mimo(command, os.fsdecode(name))
    assert code in (1, 2)
    assert "Traceback" not in err
    assert not any(ord(character) < 32 and character != "\n" for character in err)
    assert len([line for line in err.splitlines() if line.startswith("mimo:")]) == 1
    expected = one_line(os.fsdecode(name))
    assert expected.removesuffix(".onnx") in err


def test_memory_that_runs_out_is_a_sentence(tmp_path: Path) -> None:
    prefix = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({6 * 2**30},) * 2)"
    assert resource.RLIMIT_AS
    begin = time.monotonic()
    done = start("verify", "--size", "100000x100000", cwd=tmp_path, prefix=prefix)
    assert time.monotonic() - begin < 100
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_foreign_files_in_the_folder_stop_no_bare_command(mimo: Run, tiny: Tiny, tmp_path: Path) -> None:
    """A graph and an engine of somebody else's, and what an export that was killed left behind."""
    for source in (tiny.onnx, tiny.onnx.with_name(tiny.onnx.name + ".json")):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (tmp_path / "foreign.onnx").write_bytes(b"not a graph")
    (tmp_path / "foreign.engine").write_bytes(b"not a plan")
    (tmp_path / ".hidden.onnx").write_bytes(b"half of one")
    (tmp_path / "folder.onnx").mkdir()
    # A name that leaves no room for that of a sidecar or a report.
    (tmp_path / f"{'foreign' * 35}.onnx").write_bytes(tiny.onnx.read_bytes())
    code, out, err = mimo("verify", "--against", tiny.checkpoint, "--size", "32x32", "--engine", "onnxruntime")
    assert (code, err.count("not done")) == (1, 3), err
    assert tiny.onnx.name in out and "passed" in out
    assert all("foreign" in one for one in err.splitlines() if "not done" in one)
    (tmp_path / f"{'foreign' * 35}.onnx").unlink()
    code, out, err = mimo("bench", "--against", tiny.checkpoint, "--size", "32x32", "--max-seconds", "1", "--no-limits")
    assert (code, err.count("not done")) == (1, 2), err
    assert tiny.onnx.name in out
    code, _, err = mimo("verify", "foreign.onnx", "--against", tiny.checkpoint)
    assert (code, "not done" in err) == (2, False), err


@pytest.mark.parametrize(
    "arguments",
    [["bench", "--throughput", "1000"], ["verify", "--size", "100000x100000"], ["bench", "--size", "100000x100000"]],
    ids=str,
)
def test_no_option_is_without_a_bound(mimo: Run, arguments: list[str]) -> None:
    code, _, err = mimo(*arguments)
    assert code == 2
    assert "64" in err or "at most" in err
