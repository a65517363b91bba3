"""Specs read from shapes; sizes and profiles that can be, and sentences for those that cannot."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimo.errors import CheckpointError, MimoError, ShapeError
from mimo.networks.entry import Network
from mimo.networks.registry import NETWORKS, mimo_unet, named, own, recognise, spec_from_json
from mimo.spec import Shape, ShapeRange
from tests.parity_weights import keys

SIDES = st.integers(16, 5000)
SHAPES = st.builds(Shape, st.integers(1, 64), SIDES, SIDES)


def shapes_of(blocks: int, width: int) -> dict[str, tuple[int, ...]]:
    """The keys by which a variant is told."""
    told = {f"Encoder.0.layers.{number}.main.0.main.0.bias": (width,) for number in range(blocks)}
    return {**told, "feat_extract.0.main.0.weight": (width, 3, 3, 3)}


@pytest.mark.parametrize(("listed", "name"), [("MIMO-UNet", "mimo-unet"), ("MIMO-UNetPlus", "mimo-unet-plus")])
def test_the_authors_variants_are_told_by_their_shapes(listed: str, name: str) -> None:
    assert recognise(keys(listed)) == named(name)


@pytest.mark.parametrize(
    ("blocks", "width", "name"),
    [(8, 16, "mimo-unet-small"), (1, 8, "mimo-unet-w8-b1"), (20, 16, "mimo-unet-w16-b20"), (12, 32, "mimo-unet-w32-b12")],
)
def test_other_sizes_get_a_name_from_them(blocks: int, width: int, name: str) -> None:
    spec = recognise(shapes_of(blocks, width))
    assert spec == mimo_unet(width, blocks)
    assert (spec.name, spec.size_multiple) == (name, 4)


def test_names_are_their_own_keys() -> None:
    names = [variant.name for entry in NETWORKS for variant in entry.variants]
    assert len(set(names)) == len(names)
    assert all(named(name).name == name for name in names)


@pytest.mark.parametrize(
    ("listed", "name"),
    [
        ("MPRNet", "mprnet"),
        ("NAFNet-32", "nafnet-32"),
        ("MTRNN", "mt-rnn"),
        ("DMPHN-1-2-4", "dmphn-1-2-4"),
        ("DMPHN-stack4", "dmphn"),
    ],
)
def test_other_networks_are_told_by_theirs(listed: str, name: str) -> None:
    assert recognise(keys(listed)) == named(name)


@pytest.mark.parametrize("entry", NETWORKS, ids=lambda entry: str(entry.name))
def test_a_spec_goes_through_json_and_cannot_be_given_another_name(entry: Network) -> None:
    changes: tuple[dict[str, object], ...] = (
        {"name": "other"}, {"size_multiple": 3}, {"size_multiple": True}, {"parameters": {}}, {"network": "none"},
    )  # fmt: skip
    for variant in entry.variants:
        spec = named(variant.name)
        written = json.loads(json.dumps(spec.to_json()))
        assert spec_from_json(written) == spec
        for change in changes:
            with pytest.raises((ValueError, KeyError, TypeError)):
                spec_from_json(written | change)


def test_what_older_versions_wrote_of_a_network_is_read() -> None:
    old = {"name": "mimo-unet-w8-b3", "residual_blocks": 3, "width": 8, "size_multiple": 4}
    assert spec_from_json(old) == mimo_unet(8, 3)
    with pytest.raises(ValueError, match="parameter"):
        spec_from_json(old | {"residual_blocks": -1000})


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"feat_extract.0.main.0.weight": (32, 3, 3, 3)},
        {key: value for key, value in shapes_of(8, 32).items() if "Encoder" in key},
    ],
    ids=["nothing", "no encoder", "no first convolution"],
)
def test_a_key_that_is_missing_is_another_network(shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(CheckpointError, match="another network"):
        recognise(shapes)


@pytest.mark.parametrize(
    "shapes",
    [
        {**shapes_of(8, 32), "Encoder.0.layers.99999999999.main.0.main.0.bias": (32,)},
        {key: value for key, value in shapes_of(8, 32).items() if ".layers.3." not in key},
        shapes_of(8, 1),
        shapes_of(8, 0),
        shapes_of(8, 2**40),
        {**shapes_of(8, 32), "feat_extract.0.main.0.weight": (32,)},
        {**shapes_of(8, 32), f"Encoder.0.layers.{'9' * 5000}.x": (32,)},
    ],
    ids=["an enormous number", "a gap", "one channel", "no channel", "any size", "a flat convolution", "5,000 digits"],
)
def test_a_network_that_cannot_be_is_refused_before_it_is_built(shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(CheckpointError, match="no MIMO-UNet is like this") as raised:
        recognise(shapes)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(("name", "context"), [("mimo-unet", 244), ("mimo-unet-plus", 580), ("mimo-unet-small", 244)])
def test_the_context_of_a_tile(name: str, context: int) -> None:
    assert named(name).context == context


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("1x720x1280", Shape(1, 720, 1280)),
        ("720x1280", Shape(1, 720, 1280)),
        ("2x3x720x1280", Shape(2, 720, 1280)),
        (" 720x1280 ", Shape(1, 720, 1280)),
        ("4X16x17", Shape(4, 16, 17)),
    ],
)
def test_sizes_are_read(text: str, shape: Shape) -> None:
    assert Shape.parse(text) == shape


@pytest.mark.parametrize(
    "text",
    [
        "",
        "720",
        "720x",
        "x720x1280",
        "1x4x720x1280",
        "1x3x3x720x1280",
        "axb",
        "-1x64x64",
        "64.0x64",
        "64 x 64",
        "²0x64",
        "720*1280",
        "9" * 5000 + "x64",
    ],
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ShapeError, match=r"is not a size: .* such as 1x720x1280"):
        Shape.parse(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [("0x64x64", "batch must be at least 1"), ("15x64", "at least 16 pixels"), ("1x64x8", "at least 16 pixels"), ("0x0", "16")],
)
def test_sizes_that_cannot_be_are_refused(text: str, says: str) -> None:
    with pytest.raises(ShapeError, match=says):
        Shape.parse(text)


@given(SHAPES)
def test_a_size_reads_back_as_written(shape: Shape) -> None:
    assert Shape.parse(str(shape)) == shape
    assert shape.nchw == (shape.batch, 3, shape.height, shape.width)


@given(SHAPES, st.integers(1, 64))
def test_padding_is_the_least_that_fits(shape: Shape, multiple: int) -> None:
    padded = shape.padded(multiple)
    assert padded.batch == shape.batch
    assert padded.height % multiple == padded.width % multiple == 0
    assert 0 <= padded.height - shape.height < multiple
    assert 0 <= padded.width - shape.width < multiple
    assert padded.padded(multiple) == padded


RANGE = ShapeRange(Shape(1, 64, 128), Shape(2, 720, 1280), Shape(4, 2160, 3840))


@pytest.mark.parametrize("dimension", ["batch", "height", "width"])
@pytest.mark.parametrize("order", [order for order in itertools.permutations(range(3)) if order != (0, 1, 2)])
def test_a_profile_out_of_order_is_refused_with_its_cure(dimension: str, order: tuple[int, ...]) -> None:
    shapes = []
    for place in range(3):
        places = {name: order[place] if name == dimension else place for name in ("batch", "height", "width")}
        shapes.append(Shape((1, 2, 4)[places["batch"]], (64, 720, 2160)[places["height"]], (64, 720, 2160)[places["width"]]))
    with pytest.raises(ShapeError, match=rf"profile's {dimension} runs .*change --min, --opt or --max"):
        ShapeRange(shapes[0], shapes[1], shapes[2])


@pytest.mark.parametrize("odd", ["1x66x128", "1x64x129"])
def test_a_profile_off_the_multiple_is_refused_with_the_next_one(odd: str) -> None:
    shape = Shape.parse(odd)
    with pytest.raises(ShapeError, match=f"multiples of 4; {shape.padded(4)} is the next one"):
        ShapeRange(shape, RANGE.opt, RANGE.max)


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("1x64x128", True),
        ("4x2160x3840", True),
        ("2x100x200", True),
        ("5x720x1280", False),
        ("1x60x128", False),
        ("1x64x127", False),
        ("1x2161x1280", False),
        ("1x720x3841", False),
    ],
)
def test_what_is_inside_a_profile(text: str, inside: bool) -> None:
    assert (Shape.parse(text) in RANGE) is inside


def test_one_shape_can_be_a_whole_profile() -> None:
    shape = Shape(1, 64, 64)
    assert shape in ShapeRange(shape, shape, shape)
    assert str(RANGE) == "1x64x128 .. 2x720x1280 .. 4x2160x3840"


def test_a_variant_of_ones_own() -> None:
    assert own("mimo-unet", 8, 3) == mimo_unet(8, 3)
    assert own("nafnet-32", 16).parameters == {**named("nafnet-32").parameters, "width": 16}
    with pytest.raises(MimoError, match="has no width"):
        own("mprnet", 8)
    with pytest.raises(MimoError, match="has no residual blocks"):
        own("nafnet-32", None, 3)
    with pytest.raises(MimoError, match="from 2 to 4096, got 1"):
        own("mimo-unet", 1)
