"""The other networks of the table against their authors': keys, outputs, cost, and loading a download."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mimo.errors import CheckpointError
from mimo.networks.checkpoint import load_checkpoint
from mimo.networks.dmphn import DMPHN
from mimo.networks.mprnet import MPRNet
from mimo.networks.mtrnn import MTRNN
from mimo.networks.nafnet import NAFNet
from mimo.networks.registry import NETWORKS, build, named
from tests.parity_weights import PARITY, image, keys, weights

State = dict[str, Tensor]

PEERS = {
    variant.name: variant for entry in NETWORKS for variant in entry.variants if variant.weights and entry.name != "mimo-unet"
}

BUILD: dict[str, Callable[[], nn.Module]] = {
    "DMPHN-1-2-4": lambda: DMPHN(stages=1),
    "DMPHN-stack4": DMPHN,
    "MTRNN": MTRNN,
    "MPRNet": MPRNet,
    "NAFNet-32": lambda: NAFNet(32),
}


def filled(variant: str) -> nn.Module:
    """The network with the weights behind its parity file; mean shifts, which have none there, keep their own."""
    network = BUILD[variant]() if variant == "MTRNN" else on_meta(BUILD[variant])
    tensors = {key: torch.from_numpy(value) for key, value in weights(keys(variant)).items()}
    state = network.state_dict()
    # In the file's order: of MPRNet's shared parameter, the alias that stands last wins.
    network.load_state_dict({key: tensors.get(key, state[key]) for key in keys(variant)}, assign=True)
    return network.eval().requires_grad_(False)


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Shapes without numbers."""
    with torch.device("meta"):
        return build()


def close(output: Tensor, expected: np.ndarray[Any, Any]) -> None:
    """To float32's rounding, far below the 1e-3 of the range that is asked for."""
    assert output.shape == expected.shape
    np.testing.assert_allclose(output.numpy(), expected, rtol=0, atol=1e-5 * float(np.ptp(expected)))


# The networks are the authors'.


@pytest.mark.parametrize("variant", BUILD)
def test_keys_and_shapes_are_the_authors_in_their_order(variant: str) -> None:
    state = on_meta(BUILD[variant]).state_dict()
    assert [(key, tuple(value.shape)) for key, value in state.items()] == list(keys(variant).items())


@pytest.mark.parametrize("variant", ["DMPHN-1-2-4", "DMPHN-stack4", "NAFNet-32"])
def test_the_output_is_the_authors(variant: str) -> None:
    with np.load(PARITY / f"{variant}.npz") as expected:
        np.testing.assert_array_equal(image(), expected["x"])
        close(filled(variant)(torch.from_numpy(image())), expected["full"])


def test_mtrnn_gives_the_authors_first_and_last_estimate() -> None:
    network = filled("MTRNN")
    assert isinstance(network, MTRNN)
    with np.load(PARITY / "MTRNN.npz") as expected:
        np.testing.assert_array_equal(image() * 255, expected["x"])
        close(network(torch.from_numpy(image())) * 255, expected["iter6"])
        network.iterations = 1
        close(network(torch.from_numpy(image())) * 255, expected["iter1"])


def test_mprnet_gives_the_authors_images_of_all_stages_and_deploys_the_last() -> None:
    network = filled("MPRNet")
    assert isinstance(network, MPRNet)
    with np.load(PARITY / "MPRNet.npz") as expected:
        images = network.restore(torch.from_numpy(expected["x"]))
        for name, output in zip(("stage3", "stage2", "stage1"), images, strict=True):
            close(output, expected[name])
    small = torch.from_numpy(image(height=16, width=24))
    assert torch.equal(network(small), network.restore(small)[0])


@pytest.mark.parametrize(
    ("name", "giga", "within"),
    [
        ("dmphn", 2748, 2e-4),
        ("mt-rnn", 6 * 339, 2e-3),
        ("mprnet", 10_679, 2e-4),
        # The figures reported for NAFNet are 0.3 % above its convolutions alone.
        ("nafnet-32", 225, 3e-3),
        ("nafnet-64", 889, 3e-3),
    ],
)
def test_parameters_and_cost_are_the_published_ones(name: str, giga: float, within: float) -> None:
    network = on_meta(lambda: build(named(name)))
    assert sum(parameter.numel() for parameter in network.parameters()) == PEERS[name].weights
    with FlopCounterMode(display=False) as counter:
        output = network(torch.empty(1, 3, 720, 1280, device="meta"))
    assert output.shape == (1, 3, 720, 1280)
    operations = counter.get_flop_counts()["Global"]
    assert [str(kind) for kind in operations] == ["aten.convolution"]
    assert sum(operations.values()) / 2 == pytest.approx(giga * 1e9, rel=within)


def test_the_parameters_are_those_of_the_table() -> None:
    published = {"dmphn": 21_697_572, "mt-rnn": 2_635_547, "mprnet": 20_127_073, "nafnet-32": 17_111_907}
    assert {name: PEERS[name].weights for name in published} == published
    assert f"{(PEERS['nafnet-64'].weights or 0) / 1e6:.1f}" == "67.9"


# The registry.


def test_what_is_published_stands_beside_its_network() -> None:
    reported = {
        variant.title: (published.psnr, published.async_seconds, published.sync_seconds, published.gpu)
        for entry in NETWORKS
        for variant in entry.variants
        if (published := variant.published)
    }
    assert reported == {
        "DMPHN": (31.20, 0.308, 0.588, "RTX 3090"),
        "MT-RNN": (31.15, 0.031, 0.394, "RTX 3090"),
        "MPRNet": (32.66, 0.075, 1.474, "RTX 3090"),
        "MIMO-UNet": (31.73, 0.012, 0.130, "RTX 3090"),
        "MIMO-UNet+": (32.45, 0.025, 0.282, "RTX 3090"),
        "NAFNet-32": (32.87, None, None, None),
        "NAFNet-64": (33.71, None, None, None),
    }
    with pytest.raises(FrozenInstanceError):
        NETWORKS[0].name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", PEERS)
def test_a_network_takes_its_size_multiple_and_needs_it(name: str) -> None:
    network, multiple = on_meta(lambda: build(named(name))).eval(), named(name).size_multiple
    shape = (2, 3, 3 * multiple, 5 * multiple)
    assert network(torch.empty(shape, device="meta")).shape == shape
    with pytest.raises(RuntimeError):
        network(torch.empty(1, 3, 3 * multiple + multiple // 2, 5 * multiple, device="meta"))


def test_the_registry_needs_no_torch() -> None:
    program = "import sys; from mimo.networks.registry import NETWORKS; assert NETWORKS; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)})


def test_a_peer_exports_with_dynamic_sizes_and_runs_in_onnx_runtime() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network = MTRNN(iterations=1).eval().requires_grad_(False)
    batch, h, w = (torch.export.Dim(dim) for dim in ("batch", "h", "w"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 3, 16, 24),),
            dynamo=True,
            verbose=False,
            opset_version=18,
            dynamic_shapes={"x": {0: batch, 2: 4 * h, 3: 4 * w}},
        )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 64, 64), (3, 3, 20, 44)):
        images = np.random.default_rng(0).random(shape, dtype=np.float32)
        (output,) = session.run(None, {session.get_inputs()[0].name: images})
        close(network(torch.from_numpy(images)), output)


# Loading a download.


def numbered(build: Callable[[], nn.Module]) -> State:
    """A state dict that fits, every tensor filled with a number of its own; it weighs nothing, in a file either."""
    state = on_meta(build).state_dict()
    return {key: torch.tensor(1 / (1 + number)).expand(value.shape) for number, (key, value) in enumerate(state.items())}


def load_network(path: Path) -> nn.Module:
    return load_checkpoint(path).build()


def same(network: nn.Module, state: State) -> bool:
    loaded = network.state_dict()
    return list(loaded) == list(state) and all(torch.equal(loaded[key], value) for key, value in state.items())


@pytest.fixture(scope="module")
def mtrnn() -> State:
    """To be read only."""
    return numbered(MTRNN)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "download.pth"


@pytest.mark.parametrize(
    "layout",
    [
        lambda state: state,
        lambda state: {"epoch": 3000, "state_dict": state, "optimizer": {"param_groups": []}},
        lambda state: {"params": state},
        lambda state: {"model": state},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    ],
    ids=["bare", "state_dict", "params", "model", "module.", "module. in state_dict"],
)
def test_a_state_dict_is_found_in_its_layout(mtrnn: State, path: Path, layout: Callable[[State], object]) -> None:
    torch.save(layout(mtrnn), path)
    network = load_network(path)
    assert isinstance(network, MTRNN)
    assert same(network, mtrnn)
    assert not network.training
    for parameter in network.parameters():
        assert parameter.is_contiguous()
        assert not parameter.requires_grad


def test_safetensors_and_half_precision_load(mtrnn: State, path: Path) -> None:
    save_file({key: value.half().contiguous() for key, value in mtrnn.items()}, path)
    assert same(load_network(path), {key: value.half().float() for key, value in mtrnn.items()})


def test_dmphn_loads_from_one_file_for_each_part(tmp_path: Path) -> None:
    state = numbered(DMPHN)
    parts: dict[str, State] = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        parts.setdefault(part, {})[rest] = value
    assert len(parts) == 24
    for part, tensors in parts.items():
        torch.save({f"module.{key}": value for key, value in tensors.items()}, tmp_path / f"{part}.pkl")
    (tmp_path / "readme.txt").write_text("not a part")
    assert same(load_network(tmp_path), state)

    (tmp_path / "decoder_s3_lv2.pkl").rename(tmp_path / "decoder_lv2.pkl")
    with pytest.raises(CheckpointError, match=r"lacks 1 of the 24 files of DMPHN, decoder_s3_lv2"):
        load_network(tmp_path)


def test_a_folder_of_anything_else_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder and lacks 6 of the 6 files of DMPHN"):
        load_checkpoint(tmp_path)


def test_all_aliases_of_mprnet_stay_one_parameter(path: Path) -> None:
    state = numbered(MPRNet)
    aliases = [key for key in state if key.endswith("body.1.weight")]
    shared = torch.tensor([0.125])
    torch.save({"state_dict": {**state, **dict.fromkeys(aliases, shared)}}, path)
    network = load_network(path)
    assert len(aliases) == 55
    assert len({id(network.get_parameter(alias)) for alias in aliases}) == 1
    assert torch.equal(network.get_parameter(aliases[0]), shared)


def test_the_width_is_read_from_the_shapes(path: Path) -> None:
    torch.save({"params": numbered(lambda: NAFNet(64))}, path)
    assert load_checkpoint(path).spec == named("nafnet-64")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "conv2_c.0.bias"}, r"1 keys are missing, 0 unknown.* conv2_c\.0\.bias"),
        (lambda s: {**s, "conv9.weight": torch.zeros(1)}, r"0 keys are missing, 1 unknown.* conv9\.weight"),
        (lambda s: {**s, "conv1_1.0.bias": torch.zeros(31)}, r"1 of another shape, conv1_1\.0\.bias"),
        (lambda s: {**s, "conv1_1.0.bias": torch.full((32,), torch.nan)}, r"conv1_1\.0\.bias holds NaN"),
        (lambda s: {**s, "conv1_1.0.bias": torch.zeros(32, dtype=torch.int64)}, "no dense floating-point weights"),
        (lambda s: {**s, "conv1_1.0.bias": torch.zeros(32).to_sparse()}, "no dense floating-point weights"),
        (lambda s: {3: torch.zeros(1)}, "not a state dict of tensors"),
        (lambda s: [1, 2], "not a state dict"),
    ],
)
def test_what_is_no_checkpoint_of_the_network_is_refused(
    mtrnn: State, path: Path, spoil: Callable[[State], object], message: str
) -> None:
    torch.save(spoil(mtrnn), path)
    with pytest.raises(CheckpointError, match=message):
        load_network(path)


class Hostile:
    """Runs code while it is unpickled."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.evidence),)


def test_a_pickle_that_wants_to_run_code_is_refused(mtrnn: State, tmp_path: Path) -> None:
    evidence = tmp_path / "ran"
    buffer = io.BytesIO()
    torch.save({"state_dict": mtrnn, "epoch": Hostile(evidence)}, buffer)
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    assert evidence.is_dir(), "the pickle is no threat: this test shows nothing"
    evidence.rmdir()
    for target in (tmp_path / "one.pth", tmp_path / "encoder_s1_lv1.pkl"):
        target.write_bytes(buffer.getvalue())
        with pytest.raises(CheckpointError, match="wants to run code"):
            load_checkpoint(target)
        assert not evidence.exists()


def test_damaged_and_absent_files_are_errors_of_the_user(mtrnn: State, path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_network(path)
    torch.save(mtrnn, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="damaged"):
        load_network(path)
