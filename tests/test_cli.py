"""The commands as a person types them, and what they say to bad input: one sentence, exit code 2, nothing half-written."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cli
from engines.sample_images import list_photographs
from mimo.artifact import open_artifact, sidecar_of
from mimo.bundled import PHOTOGRAPHS
from tests.tiny import Tiny

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parent.parent


@pytest.fixture
def mimo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in an empty folder: its exit code, its output and its errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # of which there would be a remark

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mimo", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capfd.readouterr()
        return int(stop.value.code or 0), out, err

    return run


def listing(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def crop(path: Path, folder: Path, size: tuple[int, int]) -> Path:
    """The middle of a real photograph, small enough for a test."""
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(path) as image:
        left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
        image.crop((left, top, left + size[0], top + size[1])).save(folder / path.name)
    return folder / path.name


def test_the_line_from_a_checkpoint_to_pictures(mimo: Run, tiny: Tiny, tmp_path: Path) -> None:
    name = tiny.checkpoint.stem
    code, out, _ = mimo("export", tiny.checkpoint, "--to", "onnx")
    assert (code, listing(tmp_path)) == (0, {f"{name}.onnx", f"{name}.onnx.json"})

    code, out, _ = mimo("build-engine", "--fp16")
    assert code == 0
    assert "convolutions: 40 in fp16; inner casts: 0" in out
    assert open_artifact(tmp_path / f"{name}.fp16.engine").parent == f"{name}.fp16.onnx"

    code, out, _ = mimo("verify", "--against", tiny.checkpoint, "--size", "64x96", "--json", "report.json")
    assert code == 3, "the engine's numerics cannot run without a GPU, and that is no pass"
    assert "numerics: not run (no GPU)" in out
    report = json.loads((tmp_path / "report.json").read_text())
    assert sorted((entry["file"], entry["status"]) for entry in report) == [
        (f"{name}.fp16.engine", "not run"),
        *[(f"{name}.fp16.onnx", "passed")] * 2,
        *[(f"{name}.onnx", "passed")] * 2,
    ]

    arguments = (
        "--against",
        tiny.checkpoint,
        "--size",
        "64x96",
        "--min-samples",
        "2",
        "--max-seconds",
        "0",
        "--json",
        "bench.json",
    )
    code, out, _ = mimo("bench", "--sync", *arguments)
    assert code == 0
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [row["verified"] for row in rows] == ["reference", "-", *["verified"] * 4]
    assert {"async", "(not", "latency)"} <= set(out.split())
    assert "GPU" in rows[1]["reason"]

    crop(list_photographs(PHOTOGRAPHS)[0], tmp_path / "photos" / "trip", (96, 64))
    code, out, _ = mimo("deblur", "photos", "--out", "sharp", "--model", f"{name}.onnx")
    assert code == 0
    with Image.open(next((tmp_path / "sharp" / "trip").iterdir())) as restored:
        assert restored.size == (96, 64)
    code, out, _ = mimo("deblur", "photos", "--out", "sharp", "--model", f"{name}.onnx")
    assert "0 done, 1 there already" in out


def test_the_mean_of_weights(mimo: Run, tiny: Tiny, tmp_path: Path) -> None:
    code, out, _ = mimo("weights", "average", tiny.checkpoint, tiny.checkpoint, "--out", "mean.safetensors")
    assert (code, listing(tmp_path)) == (0, {"mean.safetensors"})
    assert "the mean of 2 checkpoints" in out
    code, _, err = mimo("weights", "average", tiny.checkpoint, "--out", "other.safetensors")
    assert (code, listing(tmp_path)) == (2, {"mean.safetensors"})
    assert "at least two" in err


def test_a_failed_verification_ends_with_1(mimo: Run, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engines.runtimes.onnxruntime import OnnxRuntimeEngine

    restored = OnnxRuntimeEngine.__call__
    monkeypatch.setattr(OnnxRuntimeEngine, "__call__", lambda self, images: restored(self, images) + np.float32(0.01))
    shutil.copy(tiny.onnx, tmp_path)
    arguments = ("--against", tiny.checkpoint, "--size", "64x96", "--engine", "onnxruntime")
    code, out, _ = mimo("verify", tiny.onnx.name, *arguments)
    assert code == 1
    assert "failed" in out
    assert json.loads((tmp_path / f"{tiny.onnx.name}.verification.json").read_text())[0]["status"] == "failed"


@pytest.mark.parametrize("file", ["checkpoint", "onnx", "fp16", "engine"])
def test_inspect(mimo: Run, tiny: Tiny, file: str) -> None:
    code, out, _ = mimo("inspect", getattr(tiny, file))
    assert code == 0
    assert "mimo-unet-w8-b1" in out
    assert ("GMAC" in out) == (file in ("onnx", "fp16"))
    assert ("receipt" in out) == (file == "engine")


def test_doctor(mimo: Run) -> None:
    code, out, _ = mimo("doctor")
    assert code == 0
    assert "openvino" in out
    assert "[tensorrt]" in out


def png_claiming(width: int, height: int) -> bytes:
    """A few bytes that claim to be an enormous picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10**6)) + chunk(b"IEND", b"")


def changed_bytes(tiny: Tiny, folder: Path) -> list[object]:
    path = folder / tiny.onnx.name
    shutil.copy(sidecar_of(tiny.onnx), folder)
    path.write_bytes(tiny.onnx.read_bytes() + b"\0")
    return ["inspect", path.name]


def another_model(tiny: Tiny, folder: Path) -> list[object]:
    import onnx
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph), str(folder / "other.onnx"))
    return ["build-engine", "other.onnx", "--fp16"]


def another_network(tiny: Tiny, folder: Path) -> list[object]:
    import torch

    torch.save({"conv1.weight": torch.zeros(3, 3)}, folder / "resnet.pkl")
    return ["export", "resnet.pkl"]


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("run-by-the-pickle", "w")


def hostile(tiny: Tiny, folder: Path) -> list[object]:
    import torch

    torch.save({"model": _Payload()}, folder / "hostile.pkl")
    return ["export", "hostile.pkl"]


def alone(tiny: Tiny, folder: Path) -> list[object]:
    shutil.copy(tiny.onnx, folder)
    return ["verify", tiny.onnx.name]


def small_profile(tiny: Tiny, folder: Path) -> list[object]:
    return ["build-engine", tiny.onnx, "--fp16", "--min", "1x128x128", "--opt", "1x64x64", "--out", folder / "x.engine"]


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (changed_bytes, "has changed since"),
        (another_model, "ONNX file of another model"),
        (another_network, "another network"),
        (hostile, "wants to run code .* nothing ran"),
        (small_profile, "min <= opt <= max"),
        (lambda tiny, folder: ["bench", tiny.onnx, "--size", "8x64"], "at least 16 pixels"),
        (lambda tiny, folder: ["bench", tiny.onnx, "--size", "big"], "is not a size"),
        (lambda tiny, folder: ["build-engine"], "run mimo export --to onnx first"),
        (lambda tiny, folder: ["verify"], "run mimo export --to onnx first"),
        (lambda tiny, folder: ["export", "missing.pkl"], "does not exist"),
        (lambda tiny, folder: ["export", "--io-fp16"], "--io-fp16 goes with --fp16"),
        (alone, "was made from a checkpoint .* name it with --against"),
        (lambda tiny, folder: ["deblur", ".", "--out", "out", "--model", tiny.engine], "GPU"),
        (lambda tiny, folder: ["export", tiny.checkpoint, "--out", "/proc/a/x.onnx"], "could not be written"),
    ],
)
def test_bad_input(mimo: Run, tiny: Tiny, tmp_path: Path, prepare: Callable[[Tiny, Path], list[object]], says: str) -> None:
    arguments = prepare(tiny, tmp_path)
    before = listing(tmp_path)
    code, _, err = mimo(*arguments)
    sentence = " ".join(err.split())
    assert code == 2, sentence
    assert sentence.startswith("mimo:")
    assert "Traceback" not in err
    assert re.search(says, sentence), sentence
    assert listing(tmp_path) == before


@pytest.mark.parametrize("kind", ["truncated", "bomb", "text"])
def test_a_bad_photograph_is_reported_and_the_rest_is_done(mimo: Run, tiny: Tiny, tmp_path: Path, kind: str) -> None:
    good = crop(list_photographs(PHOTOGRAPHS)[0], tmp_path / "photos", (64, 48))
    content = {"truncated": good.read_bytes()[:1500], "bomb": png_claiming(60000, 60000), "text": b"not a picture"}[kind]
    (tmp_path / "photos" / "bad.png").write_bytes(content)
    code, out, err = mimo("deblur", "photos", "--out", "sharp", "--model", tiny.onnx)
    assert code == 1
    assert "1 done, 0 there already, 1 not done" in out
    assert "bad.png" in err
    assert "Traceback" not in err
    assert listing(tmp_path / "sharp") == {good.name}


def test_a_name_with_brackets_is_no_markup(mimo: Run, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a[red]b[x].png").write_bytes(b"not a picture")
    code, out, err = mimo("deblur", "photos", "--out", "sharp[1]", "--model", tiny.onnx)
    assert code == 1
    assert "a[red]b[x].png" in err
    assert "in sharp[1] (" in out


def test_help_is_quick_and_light() -> None:
    heavy = {
        "torch",
        "numpy",
        "onnx",
        "onnxruntime",
        "openvino",
        "polygraphy",
        "pyvips",
        "tensorrt",
        "tensorrt_rtx",
        "safetensors",
    }
    code = (
        "import sys, cli\nsys.argv[1:] = ['--help']\n"
        f"try: cli.main()\nexcept SystemExit: pass\nprint(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")


def test_deploying_needs_no_torch(tiny: Tiny, tmp_path: Path) -> None:
    """An environment that lacks torch altogether: everything this one has installed, but for torch."""
    packages = tmp_path / "packages"
    packages.mkdir()
    installed = Path(np.__file__).parent.parent
    for entry in installed.iterdir():
        if not entry.name.startswith(("torch", "functorch", "__editable__", "__pycache__")) and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    photo = crop(list_photographs(PHOTOGRAPHS)[0], tmp_path / "photos", (64, 48))
    cache = str(tmp_path / "cache")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), str(ROOT)]), "XDG_CACHE_HOME": cache}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-S", "-m", "cli", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    gone = subprocess.run(
        [sys.executable, "-S", "-c", "import torch"], env=environment, capture_output=True, text=True, check=False
    )
    assert "No module named 'torch'" in gone.stderr

    shutil.copy(tiny.onnx, tmp_path)
    name = tiny.onnx.name
    assert "4*h" in run("inspect", name).stdout
    for engine in ("onnxruntime", "openvino"):
        done = run("deblur", photo, "--out", f"out-{engine}", "--model", name, "--engine", engine)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / f"out-{engine}" / photo.name).is_file()
    done = run("bench", name, "--sync", "--size", "32x32", "--min-samples", "1", "--max-seconds", "0")
    assert done.returncode == 0, done.stderr
    assert run("build-engine", name, "--fp16").returncode == 0
    assert run("deblur", photo, "--out", "bundled").returncode == 0, "the bundled network needs no torch either"
    assert (tmp_path / "bundled" / photo.name).is_file()
    assert not (Path(cache) / "mimo").exists()
    needing_torch = (
        ["export"],
        ["verify", name, "--against", tiny.checkpoint],
        ["deblur", photo, "--out", "x", "--engine", "pytorch"],
    )
    for arguments in needing_torch:
        done = run(*arguments)
        assert done.returncode == 2, done.stderr
        assert "torch" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_version(mimo: Run) -> None:
    code, out, _ = mimo("--version")
    assert (code, out) == (0, f"mimo {version('mimo-deblur')}\n")


def test_inspect_and_doctor_write_json(mimo: Run, tiny: Tiny, tmp_path: Path) -> None:
    assert mimo("inspect", tiny.onnx, "--json", "facts.json")[0] == 0
    assert json.loads((tmp_path / "facts.json").read_text())["opset"] == "18"
    assert mimo("doctor", "--json", "machine.json")[0] == 0
    machine = json.loads((tmp_path / "machine.json").read_text())
    assert machine["runtimes"]["pytorch"]["here"] is True


def test_quiet_says_nothing_but_the_result(mimo: Run, tiny: Tiny, tmp_path: Path) -> None:
    code, out, err = mimo("--quiet", "export", tiny.checkpoint)
    assert (code, err) == (0, "")
    assert tiny.checkpoint.stem in out


def test_verbose_says_every_step_and_the_causes(mimo: Run, tiny: Tiny, tmp_path: Path) -> None:
    _, _, err = mimo("-v", "export", tiny.checkpoint)
    assert "loading the checkpoint" in err
    assert "exporting" in err
    (tmp_path / "damaged.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{" + b" " * 20)
    plain = mimo("export", "damaged.safetensors")[2]
    assert "caused by" in mimo("-v", "export", "damaged.safetensors")[2]
    assert "caused by" not in plain


def test_verbose_and_quiet_exclude_each_other(mimo: Run) -> None:
    code, _, err = mimo("-v", "-q", "doctor")
    assert code == 2
    assert "exclude each other" in err


def test_off_a_terminal_long_work_says_a_line_now_and_then(
    mimo: Run, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimo.terminal.SECONDS_BETWEEN_LINES", 0.0)
    crop(list_photographs(PHOTOGRAPHS)[0], tmp_path / "photos", (64, 48))
    assert "1 of 1" in mimo("deblur", "photos", "--out", "sharp", "--model", tiny.onnx)[2]
    shutil.copy(tiny.onnx, tmp_path)
    err = mimo("verify", tiny.onnx.name, "--against", tiny.checkpoint, "--size", "64x96")[2]
    assert f"{tiny.onnx.name} on onnxruntime" in err


def test_the_old_spellings_work_and_say_the_new_one(mimo: Run, tiny: Tiny) -> None:
    small = ("--size", "32x32", "--max-seconds", "0")
    code, out, err = mimo("bench", tiny.onnx, tiny.onnx, "--compare", *small)
    assert code == 0, err
    assert "is now mimo compare" in err
    assert "A's time over B's" in out
    code, out, err = mimo("bench", f"{tiny.onnx}@onnxruntime", "--atlas", *small, "--min-samples", "1")
    assert code == 0, err
    assert "is now mimo sweep" in err
    code, _, err = mimo("bench", "table", "--only", "nothing")
    assert code == 2
    assert "is now mimo table" in err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["build-engine", "--minShapes=blur:1x3x64x64"], "write --min 1x64x64"),
        (["build-engine", "--saveEngine", "x"], "write --out FILE"),
        (["export", "--half"], "write --fp16"),
        (["bench", "--imgsz", "640"], "write --size"),
        (["table", "--runtime", "tensorrt", "--device", "cpu"], "leave --device cpu out"),
    ],
)
def test_an_option_of_another_tool_or_one_that_does_not_apply_is_refused(mimo: Run, line: list[str], says: str) -> None:
    code, _, err = mimo(*line)
    assert code == 2
    assert says in " ".join(err.split())


def test_a_cuda_graph_without_a_gpu_is_refused(mimo: Run, tiny: Tiny) -> None:
    code, _, err = mimo("bench", f"{tiny.onnx}@onnxruntime", "--cuda-graph")
    assert code == 2
    assert "--cuda-graph needs a row on a GPU" in err


def test_compare_takes_no_option_that_it_does_not_use(mimo: Run, tiny: Tiny) -> None:
    for option in (["--cold-l2"], ["--e2e"], ["--throughput", "4"], ["--no-limits"], ["--min-samples", "7"]):
        code, _, err = mimo("compare", tiny.onnx, tiny.onnx, *option)
        assert code == 2
        assert "No such option" in err


def test_python_m_mimo_runs_our_command_line_beside_a_stranger(tmp_path: Path) -> None:
    (tmp_path / "cli.py").write_text("raise SystemExit('a stranger ran')")
    (tmp_path / "export.py").write_text("raise SystemExit('a stranger ran')")
    done = subprocess.run(
        [sys.executable, "-m", "mimo", "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "mimo", "")


def test_an_overwritten_module_is_named_and_not_run(tmp_path: Path) -> None:
    for name in ("mimo", "engines", "export", "benchmarks"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("weights", "results", "*.png", "__pycache__")
        )
    (tmp_path / "cli.py").write_text("raise SystemExit('a stranger ran')")
    done = subprocess.run(
        [sys.executable, "-m", "mimo", "--version"], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert str(tmp_path / "cli.py") in done.stderr
    assert "a stranger ran" not in done.stdout + done.stderr


def test_lineage_says_what_was_compared(mimo: Run, tiny: Tiny, tmp_path: Path) -> None:
    code, out, _ = mimo("lineage", tiny.engine, "--json", "steps.json")
    assert code == 0
    assert out.splitlines()[0].startswith("match ")
    steps = json.loads((tmp_path / "steps.json").read_text())
    assert [step["outcome"] for step in steps] == [line[:18].rstrip() for line in out.splitlines()]
    shutil.copy(tiny.onnx, tmp_path)
    assert mimo("lineage", tiny.onnx.name)[0] == 3, "its checkpoint is not here"
    shutil.copy(sidecar_of(tiny.fp16), tmp_path / f"{tiny.onnx.name}.json")
    assert mimo("lineage", tiny.onnx.name)[0] == 1


def test_inspect_says_when_a_graph_has_no_sidecar(mimo: Run, tiny: Tiny, tmp_path: Path) -> None:
    shutil.copy(tiny.onnx, tmp_path)
    assert "sidecar" in mimo("inspect", tiny.onnx.name)[1]
    shutil.copy(sidecar_of(tiny.onnx), tmp_path)
    assert "sidecar" not in mimo("inspect", tiny.onnx.name)[1]
