"""Blurry/sharp pairs from sharp photographs: the shake of a hand-held camera during the exposure. No torch here.

While the shutter is open the camera drifts, wobbles and turns a little. Each pair draws such a trajectory, and the
picture is moved along it many times and averaged in linear light, where a sensor adds up what it receives; highlights
clip afterwards, as they do in a camera. Then comes the noise of the photons and of the readout, and 8 bits.

Pair ``i`` depends on the seed and ``i`` alone, so an interrupted or a longer synthesis continues where it stands.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimo.errors import DataError
from mimo.files import write_bytes, write_json
from mimo.learning.datasets import Samples, Watch, digest, open_photographs, read_picture
from mimo.learning.shake import Track, decoded, in_step, opencv, random_region, to_linear, to_samples, trajectory
from mimo.learning.styles import LENGTHS, LONGEST, SHORTEST, Shake
from mimo.spec import SMALLEST_SIDE

MOST_PAIRS = 10_000_000
"""A larger number is a slip."""

RECORD = "synthesis.json"
"""In the folder: seed, settings and photographs that its pairs were made from."""


def synthesize(
    sharp_dir: Path,
    dst: Path,
    count: int,
    seed: int,
    *,
    shake: Shake | None = None,
    workers: int = 2,
    watch: Watch | None = None,
) -> int:
    """Write ``count`` pairs ``dst/{blur,sharp}/<photograph>_NNNNNN.png`` made from the photographs in ``sharp_dir``.

    All photographs are used equally often. The same seed, photographs and library versions give the same bytes, with any
    number of ``workers``; pairs that are there already are kept. Returns how many were made now.

    Raises :class:`~mimo.errors.DataError` when there are no photographs or ``dst`` was made with other settings,
    :class:`~mimo.errors.ImageError` for a photograph that cannot be read, :class:`~mimo.errors.OutputError` when a file
    cannot be written; the pairs made so far stay, each of them whole.
    """
    shake = shake or Shake()
    if not (1 <= count <= MOST_PAIRS):
        raise DataError(f"--count must be from 1 to {MOST_PAIRS:,}, got {count:.6g}.")
    if seed < 0:
        raise DataError(f"--seed must be at least 0, got {seed}.")
    for name, length in (("shortest", shake.shortest), ("longest", shake.longest)):
        # Also what is not a number.
        if not SHORTEST <= length <= LONGEST:
            raise DataError(f"--{name} must be {LENGTHS}, got {length:g}.")
    if shake.longest < shake.shortest:
        raise DataError(f"--longest must be at least the shortest track, {shake.shortest:g} pixels, got {shake.longest:g}.")
    found = open_photographs(sharp_dir)
    photographs = [photograph.path for photograph in found]
    _same_settings(dst, {"seed": seed, "photographs": digest(found), "shake": repr(shake)})

    def one(number: int) -> bool:
        lap, place = divmod(number, len(photographs))
        source = photographs[int(np.random.default_rng((1, seed, lap)).permutation(len(photographs))[place])]
        targets = [dst / side / f"{source.stem}_{number:06d}.png" for side in ("blur", "sharp")]
        if all(target.is_file() for target in targets):
            return False
        pair = make_pair(read_picture(source), np.random.default_rng((2, seed, number)), shake)
        for target, picture in zip(targets, pair, strict=True):
            write_bytes(target, _png(picture))
        return True

    made = 0
    # Only a few are asked for ahead: what waits costs memory, and an error or Ctrl-C need not wait for it.
    ahead: deque[Future[bool]] = deque()
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        for number in range(count):
            ahead.append(pool.submit(one, number))
            while len(ahead) >= (2 * workers if number + 1 < count else 1):
                made += ahead.popleft().result()
                if watch is not None:
                    watch(number + 1 - len(ahead), count)
    finally:
        pool.shutdown(cancel_futures=True)
    return made


def make_pair(photograph: Samples, draw: np.random.Generator, shake: Shake) -> tuple[Samples, Samples]:
    """A blurry picture and its sharp truth, (h,w,3) each, from (H,W,3); all that is random comes from ``draw``.

    The truth is where the trajectory's mean is, so that nothing has to be moved to restore it.
    """
    cv2 = opencv()
    scale = float(draw.uniform(*shake.scales))
    side = round(shake.longest_side / scale)
    rows, columns = (_span(draw, length, side) for length in photograph.shape[:2])
    light: NDArray[np.float32]
    if shake.encoded:
        light = np.divide(photograph[rows, columns], 255, dtype=np.float32)
    else:
        light = to_linear(photograph[rows, columns])
        # A sensor receives more than it can store; what a photograph shows as white was brighter in some of them.
        gain = float(draw.uniform(1, 4)) if draw.random() < 0.5 else 1.0
        light += (gain - 1) * np.clip((light - 0.9) / 0.1, 0, 1)

    corner = 0.5 * float(np.hypot(*light.shape[:2]))

    def drawn_track() -> Track:
        extent = float(np.exp(draw.uniform(np.log(shake.shortest), np.log(shake.longest)))) / scale
        return trajectory(draw, extent, float(draw.choice(shake.jitters)), shake.turn * extent / corner, shake.wander)

    tracks = [drawn_track()]
    region = None
    if shake.moving and draw.random() < shake.moving:
        tracks.append(drawn_track())
        region = random_region(draw, light.shape[0], light.shape[1])
    blurred = along(light, tracks, region)
    # What came in from outside was made up: it is cut off, as long as something is left.
    reach = max(float(np.abs(track[:, :2]).max() + corner * np.abs(track[:, 2]).max()) for track in tracks)
    margin = min(int(np.ceil(reach)), (min(light.shape[:2]) - round(64 / scale)) // 2)
    if margin > 0:
        blurred, light = (picture[margin:-margin, margin:-margin] for picture in (blurred, light))
    size = (max(SMALLEST_SIDE, round(light.shape[1] * scale)), max(SMALLEST_SIDE, round(light.shape[0] * scale)))
    blurred, truth = (cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (blurred, light))

    if shake.encoded:
        blurred, truth = decoded(blurred.clip(0, 1)), decoded(truth.clip(0, 1))
    deviation = float(draw.uniform(0, shake.noise))
    # Nearly all the variance at mid grey (0.18) is the photons', which shrinks with the light; a fiftieth is the readout's.
    variance = deviation**2 * (0.02 + 0.98 * np.clip(blurred, 0, 1) / 0.18)
    blurred += (np.sqrt(variance) * draw.standard_normal(blurred.shape, dtype=np.float32)).astype(np.float32)
    return to_samples(blurred), to_samples(truth)


def _span(draw: np.random.Generator, length: int, most: int) -> slice:
    """At most ``most`` of ``length`` pixels, placed at random."""
    part = min(length, most)
    start = int(draw.integers(length - part + 1))
    return slice(start, start + part)


def along(light: NDArray[np.float32], tracks: Sequence[Track], region: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """The mean of ``light``, (H,W,3), in all poses of the first track; what ``region`` covers follows the second instead.

    ``region``: (H,W) in [0,1], how much of each pixel belongs to what moves on its own, in front of the rest. What
    moves in from outside repeats what is at the edge, mirrored.
    """
    cv2 = opencv()
    height, width = light.shape[:2]
    across, down = (width - 1) / 2, (height - 1) / 2

    def posed(picture: NDArray[np.float32], pose: NDArray[np.float64], border: int) -> NDArray[np.float32]:
        right, below, angle = pose
        cosine, sine = np.cos(angle), np.sin(angle)
        matrix = np.array([
            [cosine, -sine, across - cosine * across + sine * down + right],
            [sine, cosine, down - sine * across - cosine * down + below],
        ])  # fmt: skip
        moved: NDArray[np.float32] = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)
        return moved

    total = np.zeros_like(light)
    for poses in zip(*in_step(tracks), strict=True):
        frame = posed(light, poses[0], cv2.BORDER_REFLECT)
        if region is not None:
            inside = posed(region, poses[1], cv2.BORDER_REPLICATE)[..., None]
            frame += inside * (posed(light, poses[1], cv2.BORDER_REFLECT) - frame)
        total += frame
    total /= np.float32(max(map(len, tracks)))
    return total


def _same_settings(dst: Path, settings: dict[str, Any]) -> None:
    record = dst / RECORD
    if record.is_file():
        try:
            found = json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{record} is damaged: take {dst} away, or choose another folder.") from error
        if found != settings:
            raise DataError(f"{dst} was made with another seed, other settings or other photographs: choose another folder.")
        return
    if any((dst / side).is_dir() and any((dst / side).iterdir()) for side in ("blur", "sharp")):
        raise DataError(f"{dst} holds pictures that mimo synthesize did not make: choose another folder.")
    write_json(record, settings)


def _png(picture: Samples) -> bytes:
    cv2 = opencv()
    # Speed before size: level 1 takes a tenth of the time for a fifth more bytes.
    encoded: bytes = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    return encoded
