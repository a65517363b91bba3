"""The model repository: what stands in it, as Triton's own message definition reads it, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from typer.testing import CliRunner

import cli
from export.triton import Backend, Device, config_of, export_triton
from mimo.artifact import Artifact, artifact_from, open_artifact
from mimo.errors import ExportError, OutputError, ShapeError
from mimo.files import sha256_of
from mimo.formats import Format
from mimo.spec import Shape, ShapeRange
from tests.tiny import SPEC, Tiny

PROFILE = ShapeRange(Shape(1, 64, 64), Shape(2, 128, 192), Shape(4, 256, 192))


def made(format: Format, shapes: ShapeRange | None = None, name: str = "net.fp16.engine") -> Artifact:
    """An artifact of which only the description is looked at."""
    return Artifact(Path(name), "a" * 64, format, "fp16", "float16", SPEC, "b" * 64, shapes=shapes)


def parsed(text: str) -> Any:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    return text_format.Parse(text, ModelConfig())


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    return done.exit_code, str(done.exception or done.output)


def test_a_graph_keeps_every_dimension_dynamic_and_its_lineage_is_read_back(tiny: Tiny) -> None:
    source = open_artifact(tiny.onnx)
    config = parsed(config_of(source, "net", "onnxruntime", "cpu", Shape(1, 64, 96)))
    assert (config.name, config.platform, config.backend) == ("net", "onnxruntime_onnx", "")
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    for end, name in ((config.input[0], "blur"), (config.output[0], "sharp")):
        assert (end.name, end.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[end.data_type].name) == (
            name,
            "TYPE_FP32",
        )
        assert list(end.dims) == [-1, 3, -1, -1]
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, group_kind("KIND_CPU"))]
    (warm,) = config.model_warmup
    assert (warm.batch_size, list(warm.inputs["blur"].dims), warm.inputs["blur"].zero_data) == (1, [1, 3, 64, 96], True)
    said = {key: value.string_value for key, value in config.parameters.items()}
    assert said["mimo.checkpoint_sha256"] == source.checkpoint_sha256
    assert (said["mimo.precision"], said["mimo.compute"]) == ("fp32", "fp32")
    assert artifact_from(tiny.onnx, said["mimo.sha256"], said["mimo.lineage"], "the parameters") == source


def group_kind(name: str) -> int:
    from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

    return int(ModelInstanceGroup.Kind.Value(name))


def test_a_plan_takes_its_batches_and_its_sides_from_the_profile() -> None:
    config = parsed(config_of(made("tensorrt", PROFILE), "net", "tensorrt", "cuda", PROFILE.opt))
    assert config.platform == "tensorrt_plan"
    assert config.max_batch_size == 4
    assert config.HasField("dynamic_batching")
    # Triton puts the batch before these. Every width of the profile up to 192, every height.
    assert list(config.input[0].dims) == list(config.output[0].dims) == [3, -1, -1]
    assert config.instance_group[0].kind == group_kind("KIND_GPU")
    assert (config.model_warmup[0].batch_size, list(config.model_warmup[0].inputs["blur"].dims)) == (2, [3, 128, 192])
    assert config.parameters["mimo.compute"].string_value == "fp16"


@pytest.mark.parametrize(
    ("shapes", "dims"),
    [
        (ShapeRange(Shape(1, 64, 96), Shape(1, 64, 96), Shape(1, 64, 96)), [1, 3, 64, 96]),
        (ShapeRange(Shape(1, 64, 96), Shape(1, 64, 96), Shape(1, 128, 96)), [1, 3, -1, 96]),
        (ShapeRange(Shape(2, 64, 96), Shape(2, 64, 96), Shape(4, 64, 192)), [-1, 3, 64, -1]),
    ],
)
def test_where_single_images_are_not_put_together_the_batch_is_a_dimension(shapes: ShapeRange, dims: list[int]) -> None:
    config = parsed(config_of(made("tensorrt", shapes), "net", "tensorrt", "cuda", shapes.opt))
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == dims
    assert list(config.model_warmup[0].inputs["blur"].dims) == list(shapes.opt.nchw)


def test_names_of_any_language_and_quotes_stand_in_the_configuration_as_they_are() -> None:
    source = made("onnx", name='bild "ü"\\.onnx')
    config = parsed(config_of(replace(source, tools={"ä": 'a"b\n'}), "net", "onnxruntime", "cuda", Shape(1, 64, 64)))
    assert config.parameters["mimo.file"].string_value == source.path.name
    assert json.loads(config.parameters["mimo.lineage"].string_value)["tools"] == {"ä": 'a"b\n'}
    assert parsed(config_of(made("onnx", name="\udcff.onnx"), "n", "onnxruntime", "cpu", Shape(1, 64, 64))).name == "n"


def test_the_repository_holds_the_artifact_with_its_sidecar(tiny: Tiny, tmp_path: Path) -> None:
    copy = export_triton(open_artifact(tiny.onnx), tmp_path / "models", warm_up=Shape(1, 64, 96))
    folder = tmp_path / "models" / SPEC.name
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "1/model.onnx",
        "1/model.onnx.json",
        "config.pbtxt",
    ]
    assert copy == replace(open_artifact(tiny.onnx), path=folder / "1" / "model.onnx") == open_artifact(copy.path)
    assert [path.name for path in (tmp_path / "models").iterdir()] == [SPEC.name], "something half-made was left"


@pytest.mark.parametrize("backend", ["python-onnxruntime", "python-openvino"])
def test_the_python_backend_gets_its_program_and_the_folder_of_packages(tiny: Tiny, tmp_path: Path, backend: Backend) -> None:
    arguments = ("--name", "net", "--backend", backend, "--site-packages", tmp_path / "venv", "--warm-up", "64x96")
    code, said = run("export", "--to", "triton", tiny.onnx, "--repository", tmp_path, *arguments)
    assert code == 0, said
    config = parsed((tmp_path / "net" / "config.pbtxt").read_text())
    assert (config.backend, config.platform) == ("python", "")
    assert config.parameters["mimo.runtime"].string_value == backend.removeprefix("python-")
    assert (tmp_path / "net" / "1" / "site-packages.txt").read_text() == f"{tmp_path / 'venv'}\n"
    assert "class TritonPythonModel" in (tmp_path / "net" / "1" / "model.py").read_text()
    assert sha256_of(tmp_path / "net" / "1" / "model.onnx") == sha256_of(tiny.onnx)


def test_an_rtx_engine_is_refused_with_the_reason(tiny: Tiny, tmp_path: Path) -> None:
    code, said = run("export", "--to", "triton", tiny.engine, "--repository", tmp_path / "models")
    assert code != 0
    assert "is a TensorRT-RTX engine, and Triton has no backend that loads those" in said
    assert "--runtime tensorrt" in said
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("format", "backend", "device", "cause"),
    [
        ("tensorrt-rtx", None, None, "no backend"),
        ("openvino", None, None, "export the ONNX file"),
        ("tensorrt", "onnxruntime", None, "does not run"),
        ("tensorrt", None, "cpu", "GPU only"),
        ("onnx", "tensorrt", None, "build an engine first"),
        ("onnx", "python-openvino", "cuda", "CPU only"),
    ],
)
def test_what_triton_cannot_run_so_is_refused(
    tmp_path: Path, format: Format, backend: Backend | None, device: Device | None, cause: str
) -> None:
    with pytest.raises(ExportError, match=cause):
        export_triton(made(format, PROFILE if format == "tensorrt" else None), tmp_path, backend=backend, device=device)
    assert not list(tmp_path.iterdir())


def test_a_shape_that_cannot_be_warmed_up_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="multiples of 4: use 1x64x68"):
        export_triton(open_artifact(tiny.onnx), tmp_path, warm_up=Shape(1, 64, 66))
    with pytest.raises(ShapeError, match="outside the profile"):
        export_triton(made("tensorrt", PROFILE), tmp_path, warm_up=Shape(1, 512, 512))


def test_a_model_that_is_there_already_stays_as_it_is(tiny: Tiny, tmp_path: Path) -> None:
    source = open_artifact(tiny.onnx)
    export_triton(source, tmp_path, name="net")
    before = (tmp_path / "net" / "config.pbtxt").read_bytes()
    with pytest.raises(OutputError, match="is there already"):
        export_triton(source, tmp_path, name="net", backend="python-onnxruntime")
    assert (tmp_path / "net" / "config.pbtxt").read_bytes() == before


def test_a_failure_half_way_leaves_nothing(tiny: Tiny, tmp_path: Path) -> None:
    gone = replace(open_artifact(tiny.onnx), path=tmp_path / "gone.onnx")
    with pytest.raises(OutputError):
        export_triton(gone, tmp_path / "models")
    assert not list((tmp_path / "models").iterdir())


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("--to", "triton"), "--repository"),
        (("--to", "triton", "--repository", "models", "--fp16"), "--fp16 does not go with --to triton"),
        (("--to", "onnx", "--repository", "models"), "--repository is for --to triton"),
        (("--to", "triton", "--repository", "models", "--name", "a/b"), "cannot be a model's name"),
        (("--to", "triton", "--repository", "models", "--site-packages", "venv"), "for the Python backend"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], cause: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = run("export", tiny.onnx, *arguments)
    assert code != 0
    assert cause in said
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_is_to_be_exported_first(tiny: Tiny, tmp_path: Path) -> None:
    code, said = run("export", "--to", "triton", tiny.checkpoint, "--repository", tmp_path)
    assert code != 0
    assert "is a checkpoint: export it first" in said
