"""Tiles: the plan as a pure function, and the pixels against the whole image's."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.runtimes.base import Engine, Images, Runtime, restore
from engines.runtimes.table import runtime_info
from engines.tiles import BYTES_PER_IMAGE_PIXEL, FIXED_BYTES, MEMORY, restore_tiled, tiling_for
from engines.tiling import Image, Tiling, choose_tiling
from mimo.errors import EngineError, ShapeError
from mimo.networks.registry import build, mimo_unet
from mimo.spec import Shape, ShapeRange
from tests.fake_engine import RADIUS, FakeEngine, neighbours


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(height * width).random((3, height, width), np.float32)


def profile(minimum: str, maximum: str) -> ShapeRange:
    return ShapeRange(Shape.parse(minimum), Shape.parse(minimum), Shape.parse(maximum))


def check(plan: Tiling, context: int, multiple: int = 4) -> None:
    """Everything a plan promises but its size."""
    height, width = (-(-side // multiple) * multiple for side in (plan.height, plan.width))
    covered = np.zeros((plan.height, plan.width), np.uint8)
    assert {tile.outer.size for tile in plan.tiles} == {plan.outer}
    for tile in plan.tiles:
        outer, inner = tile.outer, tile.inner
        assert outer.top % multiple == outer.left % multiple == outer.size[0] % multiple == outer.size[1] % multiple == 0
        assert outer.top >= 0 and outer.left >= 0 and outer.bottom <= height and outer.right <= width
        assert inner.top - outer.top >= context or outer.top == 0
        assert inner.left - outer.left >= context or outer.left == 0
        assert outer.bottom - inner.bottom >= context or outer.bottom == height
        assert outer.right - inner.right >= context or outer.right == width
        assert min(inner.size) > 0
        covered[inner.rows, inner.columns] += 1
    assert (covered == 1).all()


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(16, 600),
    width=st.integers(16, 600),
    context=st.integers(0, 60),
    multiple=st.sampled_from([4, 8]),
    spare=st.integers(0, 200),
)
def test_any_plan_covers_once_aligned_with_context_and_within_its_limit(
    height: int, width: int, context: int, multiple: int, spare: int
) -> None:
    rounded = -(-context // multiple) * multiple
    most_pixels = max(16, 2 * rounded + multiple + spare) ** 2
    plan = choose_tiling(height, width, context=context, most_pixels=most_pixels, multiple=multiple)
    check(plan, context, multiple)
    assert plan.outer[0] * plan.outer[1] <= most_pixels


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(100, 500),
    width=st.integers(100, 500),
    context=st.integers(0, 30),
    low=st.integers(4, 25),
    spare=st.integers(0, 60),
)
def test_any_plan_stays_in_the_profile(height: int, width: int, context: int, low: int, spare: int) -> None:
    minimum, maximum = 4 * low, 4 * max(low + spare, 18)
    shapes = profile(f"{minimum}x{minimum}", f"{maximum}x{maximum}")
    plan = choose_tiling(height, width, context=context, most_pixels=10**9, shapes=shapes)
    check(plan, context)
    assert Shape(1, *plan.outer) in shapes


def test_a_small_image_is_one_tile() -> None:
    plan = choose_tiling(101, 77, context=244, most_pixels=104 * 80)
    assert len(plan.tiles) == 1 and plan.outer == (104, 80) and plan.tiles[0].inner.size == (101, 77)


def test_the_fewest_pixels_are_computed() -> None:
    plan = choose_tiling(4000, 6000, context=244, most_pixels=1_000_000)
    check(plan, 244)

    def cost(rows: int, columns: int) -> float:
        sides = [-(-(length + 488 * (n - 1)) // n // 4) * 4 for length, n in ((4000, rows), (6000, columns))]
        return rows * columns * sides[0] * sides[1] if sides[0] * sides[1] <= 1_000_000 else float("inf")

    best = min(cost(rows, columns) for rows in range(1, 40) for columns in range(1, 40))
    assert len(plan.tiles) * plan.outer[0] * plan.outer[1] <= best * 1.01
    assert plan.recomputation == pytest.approx(best / 24e6, rel=0.01)


def test_a_fixed_profile_is_met_exactly() -> None:
    plan = choose_tiling(1000, 2000, context=48, most_pixels=10**9, shapes=profile("720x1280", "720x1280"))
    check(plan, 48)
    assert plan.outer == (720, 1280)


@pytest.mark.parametrize(
    ("height", "width", "context", "most_pixels", "shapes", "reason"),
    [
        (15, 99, 0, 10**6, None, "at least 16 pixels"),
        (99, 99, -4, 10**6, None, "at least 0 pixels, got -4"),
        (999, 999, 244, 488**2, None, "--tile 976 or more"),
        (999, 999, 50, 10**9, profile("64x64", "100x100"), "larger --max"),
        (99, 999, 50, 10**9, profile("128x128", "512x512"), "smaller --min"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_a_cure(
    height: int, width: int, context: int, most_pixels: int, shapes: ShapeRange | None, reason: str
) -> None:
    with pytest.raises(ShapeError, match=reason):
        choose_tiling(height, width, context=context, most_pixels=most_pixels, shapes=shapes)


@pytest.mark.parametrize("tile", [-100, 0, 15])
def test_a_tile_that_is_none_is_refused_with_a_cure(tile: int) -> None:
    with pytest.raises(ShapeError, match="--tile 64 or more"):
        tiling_for(FakeEngine(neighbours, context=0), 99, 99, tile=tile)


def test_the_cure_it_names_works() -> None:
    check(choose_tiling(999, 999, context=244, most_pixels=976**2), 244)


@pytest.mark.parametrize("runtime", get_args(Runtime))
@pytest.mark.parametrize(("height", "width"), [(720, 1280), (3000, 4000), (4000, 6000)])
def test_the_default_keeps_within_the_memory_it_promises(runtime: Runtime, height: int, width: int) -> None:
    engine = FakeEngine(neighbours, context=244)
    engine.runtime = runtime
    outer = tiling_for(engine, height, width).outer
    used = FIXED_BYTES + BYTES_PER_IMAGE_PIXEL * height * width + runtime_info(runtime).bytes_per_pixel * outer[0] * outer[1]
    assert used <= MEMORY or outer[0] * outer[1] <= (3 * 244) ** 2


def test_the_largest_photograph_has_a_default_plan() -> None:
    for context in (0, 244, 580):
        assert tiling_for(FakeEngine(neighbours, context), 14_142, 14_142).outer >= (64, 64)


def test_by_default_a_profile_is_used_to_its_full_size() -> None:
    engine = FakeEngine(neighbours, context=244, shapes=profile("256x256", "2160x3840"))
    assert len(tiling_for(engine, 2160, 3840).tiles) == 1


@pytest.mark.parametrize(("height", "width"), [(64, 64), (50, 131), (97, 18), (201, 199)])
def test_tiles_give_the_same_pixels_as_the_whole_image(height: int, width: int) -> None:
    image = noise(height, width)
    engine = FakeEngine(neighbours, context=RADIUS)
    tiled = restore_tiled(engine, image, tile=40)
    shapes = set(engine.seen)
    assert len(engine.seen) > 1 and len(shapes) == 1
    np.testing.assert_array_equal(tiled, restore(engine, image[np.newaxis])[0])


def test_less_context_is_an_approximation() -> None:
    image = noise(97, 130)
    engine = FakeEngine(neighbours, context=RADIUS)
    whole = restore(engine, image[np.newaxis])[0]
    assert not np.allclose(restore_tiled(engine, image, tile=40, context=RADIUS - 4), whole)


def test_an_engine_with_a_profile_gets_nothing_else() -> None:
    image = noise(97, 130)
    engine = FakeEngine(neighbours, context=RADIUS, shapes=profile("40x48", "40x48"))
    free = FakeEngine(neighbours, context=RADIUS)
    np.testing.assert_array_equal(restore_tiled(engine, image), restore(free, image[np.newaxis])[0])
    assert set(engine.seen) == {Shape(1, 40, 48)}


def test_progress_is_told_after_every_tile() -> None:
    engine = FakeEngine(neighbours, context=RADIUS)
    told: list[tuple[int, int]] = []
    restore_tiled(engine, noise(97, 130), tile=40, progress=lambda done, tiles: told.append((done, tiles)))
    assert told == [(number, len(engine.seen)) for number in range(1, len(engine.seen) + 1)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_result_that_is_not_finite_is_an_error(value: float) -> None:
    def broken(images: Images) -> Images:
        result = images.copy()
        result[0, 1, 10, 10] = value
        return result

    with pytest.raises(EngineError, match="fake cpu fp32 holds NaN or infinity"):
        restore_tiled(FakeEngine(broken, context=0), noise(97, 130), tile=40)


@pytest.mark.parametrize(
    "image", [np.zeros((3, 64, 64), np.float64), np.zeros((1, 3, 64, 64), np.float32), np.zeros((64, 64, 3), np.float32)]
)
def test_another_layout_is_a_defect_of_the_caller(image: Image) -> None:
    with pytest.raises(TypeError, match=r"float32 \(3,H,W\)"):
        restore_tiled(FakeEngine(neighbours, context=0), image)


@pytest.fixture(scope="module")
def network() -> Engine:
    """The real network, small, its weights large enough for what is far away to be seen."""
    torch.manual_seed(0)
    spec = mimo_unet(8, 1)
    model = build(spec).eval()
    for parameter in model.parameters():
        parameter.data *= 1.5

    def run(images: Images) -> Images:
        with torch.inference_mode():
            restored: Images = model(torch.from_numpy(images))[-1].numpy()
        return restored

    return FakeEngine(run, context=spec.context)


def test_the_network_in_tiles_equals_the_network(network: Engine) -> None:
    image = noise(197, 261)
    whole = restore(network, image[np.newaxis])[0]
    tiled = restore_tiled(network, image, tile=144)
    assert len(tiling_for(network, 197, 261, tile=144).tiles) > 3
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    assert np.abs(restore_tiled(network, image, tile=144, context=24) - whole).max() > 1e-4


def test_tiles_that_start_off_the_multiple_would_differ(network: Engine) -> None:
    """Why plans are aligned: shifted by two pixels, the network samples others at half and quarter size."""
    image = noise(196, 260)
    whole = restore(network, image[np.newaxis])[0]
    shifted = restore(network, image[np.newaxis, :, 2:])[0]
    assert np.abs(shifted[:, 60:] - whole[:, 62:]).max() > 1e-3


@pytest.mark.parametrize(("runtime", "compute"), [("pytorch", "fp16"), ("pytorch", "fp32"), ("onnxruntime", "fp16")])
def test_on_a_gpu_tiles_are_planned_from_its_free_memory(runtime: Runtime, compute: str) -> None:
    """24 megapixels: whole where they fit, in tiles that fit where they do not, in few on the CPU's budget in neither case."""
    row = runtime_info(runtime)
    assert row.cuda_bytes_per_pixel is not None
    engine = FakeEngine(lambda images: images, context=240)
    engine.runtime, engine.device, engine.compute = runtime, "cuda", compute
    a_pixel = row.cuda_bytes_per_pixel / (2 if compute == "fp16" else 1)
    engine.free_bytes = 80_000_000_000
    assert len(tiling_for(engine, 4000, 6000).tiles) == 1
    engine.free_bytes = 8_000_000_000
    plan = tiling_for(engine, 4000, 6000)
    height, width = plan.outer
    assert height * width * a_pixel <= 0.8 * engine.free_bytes
    engine.free_bytes = None
    assert len(tiling_for(engine, 4000, 6000).tiles) > 5 * len(plan.tiles)
