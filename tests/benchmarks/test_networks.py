"""The rows of the table: which, in which order, with whose weights, and MIMO-UNet++ both ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.networks import Network, Way, networks
from engines.tiles import tiling_for
from mimo.bundled import SHIPPED, WEIGHTS
from mimo.errors import CheckpointError, MimoError, ShapeError
from mimo.networks.checkpoint import save_checkpoint
from mimo.networks.registry import named
from mimo.spec import Shape, ShapeRange
from tests.fake_engine import FakeEngine
from tests.parity_weights import GAIN, PARITY, image, keys, weights

PEERS = {"dmphn", "mt-rnn", "mprnet", "nafnet-32", "nafnet-64"}
WAYS: tuple[Way, ...] = ("one pass of four", "two batches of two")
SMALL = Network("mimo-unet-small", "small", 4, None)


def by_file(given: dict[str, Path] | None = None) -> dict[str, Network]:
    return {network.file: network for network in networks(given or {})}


def test_all_rows_in_the_order_of_the_table() -> None:
    rows = networks({})
    assert [(row.title, row.way) for row in rows] == [
        ("DMPHN", None),
        ("MT-RNN", None),
        ("MPRNet", None),
        ("MIMO-UNet", None),
        ("MIMO-UNet+", None),
        ("MIMO-UNet++", "one pass of four"),
        ("MIMO-UNet++", "two batches of two"),
        ("NAFNet-32", None),
        ("NAFNet-64", None),
        ("mimo-unet-small (ours)", None),
    ]
    assert [row.file for row in rows] == [
        "dmphn",
        "mt-rnn",
        "mprnet",
        "mimo-unet",
        "mimo-unet-plus",
        "mimo-unet-plus-plus-1x4",
        "mimo-unet-plus-plus-2x2",
        "nafnet-32",
        "nafnet-64",
        "mimo-unet-small",
    ]
    psnr = {row.file: row.published.psnr for row in rows if row.published}
    assert (psnr["mimo-unet"], psnr["mimo-unet-plus"], psnr["mimo-unet-plus-plus-1x4"]) == (31.73, 32.45, 32.68)
    assert "mimo-unet-small" not in psnr, "nobody has published ours"
    assert psnr.keys() >= PEERS


def test_weights_reach_their_row_and_what_ships_is_taken_otherwise(tmp_path: Path) -> None:
    assert {row.file: row.weights for row in networks({}) if row.weights} == SHIPPED
    mine = {name: tmp_path / name for name in ("mimo-unet", "mimo-unet-plus", "nafnet-32")}
    for path in mine.values():
        path.touch()
    assert {file: row.weights for file, row in by_file(mine).items() if row.weights} == {
        **SHIPPED,
        "mimo-unet": mine["mimo-unet"],
        "mimo-unet-plus": mine["mimo-unet-plus"],
        "mimo-unet-plus-plus-1x4": mine["mimo-unet-plus"],
        "mimo-unet-plus-plus-2x2": mine["mimo-unet-plus"],
        "nafnet-32": mine["nafnet-32"],
    }


def test_weights_that_are_not_there_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(MimoError, match=r"nothing\.pth does not exist"):
        networks({"nafnet-32": tmp_path / "nothing.pth"})


@pytest.mark.parametrize("name", ["nafnet", "mimo-unet-plus-plus-1x4", ""])
def test_weights_for_no_network_are_refused(name: str) -> None:
    with pytest.raises(MimoError) as raised:
        networks({"dmphn": Path("a"), name: Path("b")})
    message = str(raised.value)
    assert message.startswith(f"--weights {name}=")
    assert all(known in message for known in (*PEERS, "mimo-unet", "mimo-unet-plus", "mimo-unet-small"))
    assert "\n" not in message


def test_a_checkpoint_of_another_variant_is_refused() -> None:
    with pytest.raises(CheckpointError) as raised:
        Network("mimo-unet-plus", "MIMO-UNet+", 4, None, WEIGHTS).build()
    assert str(raised.value) == f"{WEIGHTS} is mimo-unet: give it to that network."


def test_a_peers_checkpoint_is_checked_as_one(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="checkpoint of another network"):
        by_file({"mt-rnn": tmp_path / "other.safetensors"})["mt-rnn"].build()


@pytest.fixture(scope="module")
def plus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MIMO-UNet+ with the weights behind the parity files."""
    state = {key: torch.from_numpy(value) for key, value in weights(keys("MIMO-UNetPlus"), GAIN["MIMO-UNetPlus"]).items()}
    path = tmp_path_factory.mktemp("plus") / "plus.safetensors"
    save_checkpoint(path, named("mimo-unet-plus"), state, {})
    return path


@pytest.mark.slow
def test_two_batches_of_two_are_the_authors_mimo_unet_plus_plus(plus: Path) -> None:
    with np.load(PARITY / "MIMO-UNetPlusPlus.npz") as expected, torch.inference_mode():
        network = by_file({"mimo-unet-plus": plus})["mimo-unet-plus-plus-2x2"].build()
        result = network(torch.from_numpy(expected["x"])).numpy()
        assert float(result.max()) > 1, "not clamped, as the authors' is not"
        np.testing.assert_allclose(result, expected["full"], rtol=0, atol=1e-4)


def test_both_ways_of_mimo_unet_plus_plus_are_one() -> None:
    """On a batch of two squares, and with the small network, which is turned like any other."""
    x = torch.from_numpy(np.concatenate([image(seed, 32, 32) for seed in (1, 2)]))
    alone, together, apart = (replace(SMALL, way=way).build() for way in (None, *WAYS))
    with torch.inference_mode():
        turned = [torch.rot90(alone(torch.rot90(x, turn, (2, 3))), -turn, (2, 3)) for turn in range(4)]
        expected = torch.stack(turned).mean(0)
        assert float((expected - turned[0]).abs().max()) > 1e-3, "four rotations give what one gives"
        torch.testing.assert_close(together(x), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(apart(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["mimo-unet-small", "mt-rnn"])
def test_untrained_weights_are_the_same_each_time_and_nobody_elses_random_numbers_change(name: str) -> None:
    row = Network(name, name, 4, None)
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first = row.build()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    second = row.build()
    assert row.weights_sha256(first) == row.weights_sha256(second)
    assert not first.training
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_the_hash_of_the_weights_changes_with_a_weight_and_with_a_name() -> None:
    first, second = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)
    module = nn.Sequential(first, second).requires_grad_(False)
    seen = [SMALL.weights_sha256(module)]
    assert SMALL.weights_sha256(module) == seen[0]
    assert first.bias is not None
    first.bias[1] += 1e-3
    seen.append(SMALL.weights_sha256(module))
    assert second.running_mean is not None
    second.running_mean[0] = 0.5
    seen.append(SMALL.weights_sha256(module))
    seen.append(SMALL.weights_sha256(nn.Sequential(nn.Identity(), *module)))
    assert len(set(seen)) == 4


def test_trained_weights_have_another_hash() -> None:
    trained = by_file()["mimo-unet"]
    untrained = Network("mimo-unet", "MIMO-UNet", 4, None)
    assert trained.weights_sha256(trained.build()) != untrained.weights_sha256(untrained.build())


@pytest.mark.parametrize(
    ("file", "height", "width", "reason"),
    [
        ("mimo-unet-plus-plus-1x4", 720, 1280, "not square"),
        ("mimo-unet-plus-plus-1x4", 64, 64, None),
        ("mimo-unet-plus-plus-1x4", 62, 62, "multiples of 4"),
        ("mimo-unet-plus-plus-2x2", 720, 1280, None),
        ("mimo-unet-plus", 720, 1280, None),
        ("mimo-unet", 720, 1282, "multiples of 4"),
        ("mimo-unet", 722, 1280, "multiples of 4"),
        ("dmphn", 64, 68, "multiples of 8"),
        ("nafnet-32", 720, 1280, None),
        ("nafnet-32", 72, 64, "multiples of 16"),
    ],
)
def test_which_images_a_row_takes(file: str, height: int, width: int, reason: str | None) -> None:
    found = by_file()[file].takes(height, width)
    assert found is None if reason is None else reason in (found or "")


# What is known of other networks: nothing but their size multiple.


def test_of_another_network_only_the_whole_image_is_the_whole_image() -> None:
    spec = by_file()["nafnet-32"].spec
    assert (spec, spec.has_context, spec.size_multiple) == (named("nafnet-32"), False, 16)
    engine = FakeEngine(lambda images: images, spec.context)
    engine.size_multiple = spec.size_multiple
    plan = tiling_for(engine, 4000, 6000)
    assert (len(plan.tiles), plan.outer) == (1, (4000, 6000))
    assert tiling_for(engine, 100, 90, tile=112).outer == (112, 96)
    with pytest.raises(ShapeError, match="looks at the whole image"):
        tiling_for(engine, 4000, 6000, tile=2048)
    # Who accepts an approximation says so.
    assert len(tiling_for(engine, 4000, 6000, tile=2048, context=64).tiles) > 1
    assert len(tiling_for(engine, 4000, 6000, tile=2048, approximate=True).tiles) > 1


def test_an_engine_of_another_network_refuses_what_is_larger_than_its_profile() -> None:
    shapes = ShapeRange(Shape(1, 64, 64), Shape(1, 512, 512), Shape(1, 1024, 1024))
    engine = FakeEngine(lambda images: images, named("dmphn").context, shapes)
    assert tiling_for(engine, 1024, 1000).outer == (1024, 1000)
    with pytest.raises(ShapeError, match="looks at the whole image"):
        tiling_for(engine, 1028, 1000)
