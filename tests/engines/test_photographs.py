"""Photograph jobs: what goes where, what is refused, what survives a bad file, a full disk or Ctrl-C."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from engines import photographs
from engines.photograph_files import Job, find_photographs
from engines.photographs import Note, Report, Step, deblur_photographs, restore_bytes
from engines.runtimes.base import Images, runtime_errors
from mimo.errors import EngineError, ImageError, OutputError
from mimo.images import Photo, read_photo, write_photo
from mimo.spec import Shape, ShapeRange
from tests.fake_engine import RADIUS, FakeEngine, neighbours

ROOT = Path(__file__).parents[2]


def invert(images: Images) -> Images:
    return 1 - images


def engine() -> FakeEngine:
    return FakeEngine(invert, context=0)


def picture(path: Path, value: int = 10, size: tuple[int, int] = (24, 20)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


def value(path: Path) -> int:
    with Image.open(path) as image:
        return int(np.asarray(image)[5, 5, 0])


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def no_thread_is_left() -> object:
    """None of the job's own: in a whole run other libraries start threads when they please."""
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("decode", "encode"))]


def test_folders_keep_their_tree_and_files_their_names(tmp_path: Path) -> None:
    for name in ("in/b.png", "in/a.png", "in/sub/deep/c.TIF", "in/sub/d.webp", "in/sub/e.jpg", "single.jpeg"):
        picture(tmp_path / name)
    (tmp_path / "in/notes.txt").write_text("no photograph")
    out = tmp_path / "out"
    report = deblur_photographs(engine(), [tmp_path / "in", tmp_path / "single.jpeg"], out)
    assert tree(out) == ["a.png", "b.png", "single.jpeg", "sub/d.webp", "sub/deep/c.TIF", "sub/e.jpg"]
    names = ("a.png", "b.png", "sub/d.webp", "sub/e.jpg", "sub/deep/c.TIF", "single.jpeg")
    assert report.done == tuple(out / name for name in names)
    assert not report.skipped and not report.failed and report.seconds > 0
    assert all(abs(value(path) - 245) <= 2 for path in report.done)
    with Image.open(out / "sub/deep/c.TIF") as image:
        assert image.format == "TIFF"


def test_the_same_pixels_as_the_whole_image_in_tiles(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (97, 130, 3), np.uint8)).save(tmp_path / "in.png")
    blurred = FakeEngine(lambda images: neighbours(images) / np.float32(4), context=RADIUS)
    deblur_photographs(blurred, [tmp_path / "in.png"], tmp_path / "tiled", tile=40)
    assert len(blurred.seen) > 4
    deblur_photographs(blurred, [tmp_path / "in.png"], tmp_path / "whole")
    with Image.open(tmp_path / "tiled/in.png") as tiled, Image.open(tmp_path / "whole/in.png") as whole:
        np.testing.assert_array_equal(np.asarray(tiled), np.asarray(whole))


def test_a_second_run_skips_what_is_finished_unless_told_otherwise(tmp_path: Path) -> None:
    first, second = picture(tmp_path / "in/a.png"), picture(tmp_path / "in/b.png")
    out = tmp_path / "out"
    deblur_photographs(engine(), [first], out)
    picture(out / "a.png", 77)
    report = deblur_photographs(engine(), [first, second], out)
    assert (report.skipped, report.done) == ((out / "a.png",), (out / "b.png",))
    assert value(out / "a.png") == 77
    report = deblur_photographs(engine(), [first, second], out, overwrite=True)
    assert (report.skipped, report.done) == ((), (out / "a.png", out / "b.png"))
    assert value(out / "a.png") == 245


def test_a_bad_file_is_reported_and_the_rest_is_done(tmp_path: Path) -> None:
    source = tmp_path / "in"
    picture(source / "a.png")
    (source / "b.png").write_bytes(b"no picture")
    picture(source / "c.png")
    picture(source / "d.png", size=(15, 40))
    picture(source / "e.png").rename(source / "e.jpg")  # read by its content, written as its name says
    Image.new("RGBA", (20, 20)).save(source / "f.png")
    (source / "f.png").rename(source / "f.jpg")
    picture(source / "z.png")
    report = deblur_photographs(engine(), [source, tmp_path / "missing.png"], tmp_path / "out")
    assert [path.name for path in report.done] == ["a.png", "c.png", "d.png", "e.jpg", "z.png"] == tree(tmp_path / "out")
    assert {failure.source.name: failure.reason.partition(": ")[0].rpartition("/")[2] for failure in report.failed} == {
        "b.png": "b.png is no PNG, JPEG, TIFF or WebP picture, whatever its name says",
        "f.jpg": "f.jpg",
        "missing.png": "missing.png does not exist",
    }


def test_nan_from_the_engine_fails_the_file_and_writes_nothing(tmp_path: Path) -> None:
    def broken_on_dark(images: Images) -> Images:
        return np.where(images < 0.5, np.float32(np.nan), images)

    picture(tmp_path / "in/a.png", 10)
    picture(tmp_path / "in/b.png", 200)
    report = deblur_photographs(FakeEngine(broken_on_dark, context=0), [tmp_path / "in"], tmp_path / "out")
    assert tree(tmp_path / "out") == ["b.png"] == [path.name for path in report.done]
    assert [failure.source.name for failure in report.failed] == ["a.png"]
    assert "NaN or infinity" in report.failed[0].reason


def test_an_engine_that_fails_on_one_photograph_goes_on_with_the_next(tmp_path: Path) -> None:
    def fails_on_dark(images: Images) -> Images:
        if images.mean() < 0.5:
            raise EngineError("the plan was refused")
        return images

    picture(tmp_path / "in/a.png", 10)
    picture(tmp_path / "in/b.png", 200)
    report = deblur_photographs(FakeEngine(fails_on_dark, context=0), [tmp_path / "in"], tmp_path / "out")
    assert [failure.reason for failure in report.failed] == ["the plan was refused"]
    assert [path.name for path in report.done] == ["b.png"]


@pytest.mark.parametrize("out", ["in", "in/../in", "link"])
def test_a_photograph_is_never_overwritten(tmp_path: Path, out: str) -> None:
    source = picture(tmp_path / "in/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for inputs in ([source], [tmp_path / "in"], [source, tmp_path / "elsewhere.png"]):
        with pytest.raises(OutputError, match="would overwrite"):
            deblur_photographs(engine(), inputs, tmp_path / out, overwrite=True)
    assert value(source) == 10 and tree(tmp_path / "in") == ["a.png"]


def test_not_even_that_of_another_input(tmp_path: Path) -> None:
    picture(tmp_path / "in/sub/a.png")
    other = picture(tmp_path / "out/sub/a.png", 77)
    with pytest.raises(OutputError, match=r"out/sub/a\.png would overwrite the photograph .*out/sub/a\.png"):
        deblur_photographs(engine(), [tmp_path / "in", other], tmp_path / "out", overwrite=True)
    assert value(other) == 77 and tree(tmp_path / "out") == ["sub/a.png"]


def test_two_photographs_with_one_result_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    picture(tmp_path / "one/a.png")
    picture(tmp_path / "two/a.png")
    with pytest.raises(OutputError, match=r"one/a\.png and .*two/a\.png would both be written"):
        deblur_photographs(engine(), [tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_photograph_given_twice_is_done_once(tmp_path: Path) -> None:
    source = picture(tmp_path / "in/a.png")
    jobs = find_photographs([tmp_path / "in", source, tmp_path / "in/../in/a.png"], tmp_path / "out")
    assert jobs == (Job(source, tmp_path / "out/a.png"),)


def test_the_results_inside_the_input_folder_are_no_input(tmp_path: Path) -> None:
    picture(tmp_path / "in/a.png")
    out = tmp_path / "in/deblurred"
    for _ in range(2):
        deblur_photographs(engine(), [tmp_path / "in"], out, overwrite=True)
    assert tree(tmp_path / "in") == ["a.png", "deblurred/a.png"]


def test_hidden_files_and_links_to_folders_are_left_out(tmp_path: Path) -> None:
    for name in ("in/a.png", "in/.a-x1y2.png", "in/._a.png", "in/.thumbnails/a.png", "other/b.png"):
        picture(tmp_path / name)
    (tmp_path / "in/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/other").symlink_to(tmp_path / "other")
    assert [job.source for job in find_photographs([tmp_path / "in"], tmp_path / "out")] == [tmp_path / "in/a.png"]


def test_no_photographs_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/notes.txt").write_text("no photograph")
    with pytest.raises(ImageError, match=r"no photographs in .*in: files ending in \.jfif"):
        deblur_photographs(engine(), [tmp_path / "in"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_where_nothing_can_be_written_no_work_is_begun(tmp_path: Path) -> None:
    picture(tmp_path / "in/a.png")
    (tmp_path / "out").write_text("a file")
    used = engine()
    with pytest.raises(OutputError, match="choose another place"):
        deblur_photographs(used, [tmp_path / "in"], tmp_path / "out")
    assert used.seen == []


def test_a_full_disk_ends_the_job_and_what_was_finished_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcdef":
        picture(tmp_path / f"in/{name}.png")

    def full_at_b(path: Path, photo: Photo) -> tuple[str, ...]:
        if path.name == "b.png":
            raise OutputError("the disk is full")
        return write_photo(path, photo)

    monkeypatch.setattr(photographs, "write_photo", full_at_b)
    used = engine()
    with pytest.raises(OutputError, match="the disk is full"):
        deblur_photographs(used, [tmp_path / "in"], tmp_path / "out")
    assert tree(tmp_path / "out") == ["a.png"]
    assert len(used.seen) <= 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_ctrl_c_and_defects_end_all_threads_and_leave_whole_files(tmp_path: Path, error: type[BaseException]) -> None:
    for name in "abcd":
        picture(tmp_path / f"in/{name}.png")
    calls = 0

    def interrupted(images: Images) -> Images:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise error
        return 1 - images

    with pytest.raises(error):
        deblur_photographs(FakeEngine(interrupted, context=0), [tmp_path / "in"], tmp_path / "out")
    assert tree(tmp_path / "out") == ["a.png", "b.png"]
    report = deblur_photographs(engine(), [tmp_path / "in"], tmp_path / "out")
    assert [path.name for path in report.skipped] == ["a.png", "b.png"]
    assert [path.name for path in report.done] == ["c.png", "d.png"]


def test_decoding_and_encoding_overlap_with_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stage waits for the other two to be at work at the same time: without overlap nobody would ever come."""
    for name in "abc":
        picture(tmp_path / f"in/{name}.png", {"a": 10, "b": 20, "c": 30}[name])
    meeting = threading.Barrier(3, timeout=20)

    def read(path: Path) -> Photo:
        if path.name == "c.png":
            meeting.wait()
        return read_photo(path)

    def write(path: Path, photo: Photo) -> tuple[str, ...]:
        if path.name == "a.png":
            meeting.wait()
        return write_photo(path, photo)

    def run(images: Images) -> Images:
        if round(float(images.mean()) * 255) == 20:
            meeting.wait()
        return images

    monkeypatch.setattr(photographs, "read_photo", read)
    monkeypatch.setattr(photographs, "write_photo", write)
    report = deblur_photographs(FakeEngine(run, context=0), [tmp_path / "in"], tmp_path / "out")
    assert len(report.done) == 3


def test_no_more_than_one_photograph_is_decoded_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(8):
        picture(tmp_path / f"in/{number}.png")
    decoded = 0
    ahead: list[int] = []

    def read(path: Path) -> Photo:
        nonlocal decoded
        decoded += 1
        return read_photo(path)

    used = engine()

    def slow(images: Images) -> Images:
        time.sleep(0.05)
        ahead.append(decoded - len(used.seen))
        return images

    used.function = slow
    monkeypatch.setattr(photographs, "read_photo", read)
    deblur_photographs(used, [tmp_path / "in"], tmp_path / "out")
    assert max(ahead) == 1


def test_progress_tells_photographs_and_tiles(tmp_path: Path) -> None:
    small, large = picture(tmp_path / "in/a.png"), picture(tmp_path / "in/b.png", size=(100, 40))
    steps: list[Step] = []
    deblur_photographs(engine(), [tmp_path / "in"], tmp_path / "out", tile=32, progress=steps.append)
    tiles = steps[-1].tiles
    assert tiles > 1
    assert steps == [Step(small, 0, 2, tile, 1) for tile in (0, 1)] + [
        Step(large, 1, 2, tile, tiles) for tile in range(tiles + 1)
    ]


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "in/a.png")
    (tmp_path / "in/b.png").write_bytes((tmp_path / "in/a.png").read_bytes()[:60])
    report = deblur_photographs(engine(), [tmp_path / "in"], tmp_path / "out")
    assert len(report.failed) == 1
    assert capfd.readouterr() == ("", "")


def test_when_all_is_finished_nothing_is_done(tmp_path: Path) -> None:
    picture(tmp_path / "in/a.png")
    deblur_photographs(engine(), [tmp_path / "in"], tmp_path / "out")
    used = engine()
    report = deblur_photographs(used, [tmp_path / "in"], tmp_path / "out")
    assert report == Report((), (tmp_path / "out/a.png",), (), 0.0) and used.seen == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may list everything")
def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir(mode=0o000)
    with pytest.raises(ImageError, match="cannot be listed"):
        find_photographs([tmp_path / "in"], tmp_path / "out")


def as_png(samples: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(samples).save(file, "png")
    return file.getvalue()


def samples_of(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)))


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def test_bytes_go_in_and_bytes_come_out() -> None:
    samples = noise(20, 24, 3)
    result = restore_bytes(engine(), as_png(samples))
    np.testing.assert_array_equal(samples_of(result.data), 255 - samples)
    assert result.notes == ()
    with Image.open(io.BytesIO(restore_bytes(engine(), as_png(samples), format="jpeg").data)) as image:
        assert image.format == "JPEG"
    with pytest.raises(ImageError, match=r"^upload 7 is no PNG"):
        restore_bytes(engine(), b"nothing", "upload 7")


@pytest.mark.parametrize(("strength", "expected"), [(0.0, 40), (0.25, 84), (0.5, 128), (1.0, 215)])
def test_strength_mixes_the_result_with_the_source(strength: float, expected: int) -> None:
    result = samples_of(restore_bytes(engine(), as_png(np.full((20, 24, 3), 40, np.uint8)), strength=strength).data)
    assert abs(result.astype(int) - expected).max() <= 1


def test_no_strength_gives_every_sample_back() -> None:
    samples = noise(40, 50, 3)
    np.testing.assert_array_equal(samples_of(restore_bytes(engine(), as_png(samples), tile=32, strength=0).data), samples)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_another_strength_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="strength must be from 0 to 1"):
        restore_bytes(engine(), as_png(noise(20, 24, 3)), strength=strength)


@pytest.mark.parametrize("size", [(1, 200), (200, 1), (15, 40), (1, 1), (5, 7)])
def test_small_sides_are_continued_and_cut_off_again(size: tuple[int, int]) -> None:
    samples = noise(*size, 3)
    used = engine()
    np.testing.assert_array_equal(samples_of(restore_bytes(used, as_png(samples)).data), 255 - samples)
    assert all(min(shape.height, shape.width) >= 16 for shape in used.seen)


def test_an_engine_that_takes_no_less_gets_no_less() -> None:
    samples = noise(20, 70, 3)
    used = FakeEngine(invert, 0, ShapeRange(Shape(1, 64, 64), Shape(1, 64, 64), Shape(1, 128, 128)))
    np.testing.assert_array_equal(samples_of(restore_bytes(used, as_png(samples)).data), 255 - samples)


def test_hidden_colour_does_not_leak_and_stays_what_it_was() -> None:
    samples = noise(40, 48, 4)
    samples[:, :, 3] = 255
    samples[10:30, 10:30, 3] = 0
    samples[12, 12, 3] = 1  # nearly transparent is visible
    other = samples.copy()
    hidden = samples[:, :, 3] == 0
    other[hidden, :3] = (255, 0, 255)
    blurred = FakeEngine(lambda images: neighbours(images) / np.float32(9), context=RADIUS)
    one, two = (samples_of(restore_bytes(blurred, as_png(picture), tile=32).data) for picture in (samples, other))
    np.testing.assert_array_equal(one[~hidden], two[~hidden])
    np.testing.assert_array_equal(one[hidden], samples[hidden])
    np.testing.assert_array_equal(two[hidden], other[hidden])
    assert (one[~hidden, :3] != samples[~hidden, :3]).any()


def test_opaque_transparency_is_none_to_jpeg(tmp_path: Path) -> None:
    samples = np.full((20, 24, 4), 255, np.uint8)
    samples[:, :, :3] = 40
    (tmp_path / "a.jpg").write_bytes(as_png(samples))
    deblur_photographs(engine(), [tmp_path / "a.jpg"], tmp_path / "out")
    with Image.open(tmp_path / "out/a.jpg") as image:
        assert (image.format, image.mode) == ("JPEG", "RGB") and abs(value(tmp_path / "out/a.jpg") - 215) <= 2


def test_what_was_lost_is_noted_once_for_that_photograph(tmp_path: Path) -> None:
    picture(tmp_path / "in/a.png")
    whole = picture(tmp_path / "in/b.png").read_bytes()
    damaged = b"\0\0\0\4prVTdata" + zlib.crc32(b"prVTdata").to_bytes(4, "big")
    (tmp_path / "in/b.png").write_bytes(whole[:33] + damaged + damaged + whole[33:])
    report = deblur_photographs(engine(), [tmp_path / "in"], tmp_path / "out")
    note = Note(tmp_path / "in/b.png", ("a prVT chunk, which is made for the pixels it came with",))
    assert report.notes == (note,) and len(report.done) == 2
    assert str(note) == f"{tmp_path / 'in/b.png'}: not kept: a prVT chunk, which is made for the pixels it came with"


def test_a_result_has_the_time_of_its_photograph_and_is_made_anew_when_that_changes(tmp_path: Path) -> None:
    source = picture(tmp_path / "in/a.png")
    os.utime(source, (1.3e9, 1.3e9))
    deblur_photographs(engine(), [source], tmp_path / "out")
    assert (tmp_path / "out/a.png").stat().st_mtime == 1.3e9
    assert deblur_photographs(engine(), [source], tmp_path / "out").skipped
    picture(source, 200)
    assert deblur_photographs(engine(), [source], tmp_path / "out").done
    assert value(tmp_path / "out/a.png") == 55


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_name_that_is_not_utf_8_in_a_file_ends_nothing(tmp_path: Path, suffix: str) -> None:
    for name in "ab":
        picture(tmp_path / f"in/{name}{suffix}")
    keyword = "Résumé".encode("latin1") + b"\0hello"
    text = len(keyword).to_bytes(4, "big") + b"tEXt" + keyword + zlib.crc32(b"tEXt" + keyword).to_bytes(4, "big")
    if suffix == ".png":
        whole = (tmp_path / "in/a.png").read_bytes()
        (tmp_path / "in/a.png").write_bytes(whole[:33] + text + whole[33:])
    else:
        Image.new("RGB", (20, 20)).save(tmp_path / "in/a.tif", tiffinfo={270: "Résumé".encode("latin1")})
    assert len(deblur_photographs(engine(), [tmp_path / "in"], tmp_path / "out").done) == 2


def test_pictures_that_are_not_read_are_told(tmp_path: Path) -> None:
    picture(tmp_path / "in/a.png")
    for name in ("b.HEIC", "sub/c.avif", "d.psd", "notes.txt", ".e.heic"):
        (tmp_path / "in/sub").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    report = deblur_photographs(engine(), [tmp_path / "in"], tmp_path / "out")
    assert [path.name for path in report.left_out] == ["b.HEIC", "d.psd", "c.avif"]


@pytest.mark.parametrize("name", ["a.jfif", "b.JPE"])
def test_jpeg_has_more_than_two_suffixes(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "in/plain.jpg")
    (tmp_path / "in/plain.jpg").rename(tmp_path / "in" / name)
    report = deblur_photographs(engine(), [tmp_path / "in"], tmp_path / "out")
    assert [path.name for path in report.done] == [name]
    with Image.open(report.done[0]) as restored:
        assert restored.format == "JPEG"


def test_one_photograph_for_which_memory_does_not_suffice(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / f"in/{name}.png", size=(24, 20) if name != "b" else (40, 20))

    def greedy(images: Images) -> Images:
        if images.shape[3] == 40:
            raise MemoryError
        return 1 - images

    report = deblur_photographs(FakeEngine(greedy, context=0), [tmp_path / "in"], tmp_path / "out")
    assert tree(tmp_path / "out") == ["a.png", "c.png"]
    ((source, reason),) = [(one.source.name, one.reason) for one in report.failed]
    assert source == "b.png"
    assert "not enough memory" in reason and "--tile" in reason


@pytest.mark.parametrize(
    "words",
    [
        "std::bad_alloc",
        "Failed to allocate memory",
        "CUDA out of memory",
        "[CPU] Convolution node with name 'x' can't alloc",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 161280000 bytes",
    ],
)
def test_a_runtime_that_asked_for_memory_in_vain_names_the_cure(tmp_path: Path, words: str) -> None:
    def fail(images: Images) -> Images:
        with runtime_errors("the runtime failed"):
            raise RuntimeError(words)
        raise AssertionError

    report = deblur_photographs(FakeEngine(fail, context=0), [picture(tmp_path / "a.png")], tmp_path / "out")
    reason = report.failed[0].reason
    assert reason.endswith(f"({words}): choose a smaller tile (--tile 256), or close other programs.")


@pytest.mark.parametrize("said", ["vips2png: unable to write to target target", "out of memory", "jpeg: Insufficient memory"])
def test_an_encoder_without_memory_is_no_wrong_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    import pyvips

    def fail(*arguments: object, **options: object) -> None:
        raise pyvips.Error(said)

    monkeypatch.setattr(pyvips.Image, "pngsave_buffer", fail, raising=False)
    report = deblur_photographs(engine(), [picture(tmp_path / "a.png")], tmp_path / "out")
    assert "not enough memory" in report.failed[0].reason and "--tile" in report.failed[0].reason


@pytest.mark.parametrize("runtime", ["onnxruntime", "pytorch"])  # OpenVINO may end the process
def test_memory_that_runs_out_in_a_runtime_is_one_line_and_the_rest_is_done(tmp_path: Path, runtime: str) -> None:
    """A limit of address space for the photograph in the middle alone, so that no number of the machine's decides."""
    for name, size in (("a", (32, 24)), ("b", (2000, 1500)), ("c", (32, 24))):
        picture(tmp_path / f"in/{name}.png", size=size)
    model = "mimo-unet-small.safetensors" if runtime == "pytorch" else "mimo-unet-small.onnx"
    program = """
import resource, sys
from pathlib import Path
import engines.photographs as photographs
usual = photographs.restore_photo
def limited(engine, photo, **options):
    if photo.width > 1000:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 500_000_000, resource.RLIM_INFINITY))
    try:
        return usual(engine, photo, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
photographs.restore_photo = limited
import cli
sys.argv = ["mimo", *sys.argv[1:]]
cli.main()
"""
    arguments = ["deblur", "in", "--out", "out", "--tile", 4000, "--model", ROOT / "mimo/weights" / model, "--engine", runtime]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "not done" in line]
    assert "b.png" in line and "memory" in line and "--tile 256" in line
    assert "Error" not in done.stderr.replace(line, "") and "Traceback" not in done.stderr
    assert tree(tmp_path / "out") == ["a.png", "c.png"]


def test_what_is_in_the_way_of_one_result_stops_no_other(tmp_path: Path) -> None:
    """A link that points at itself among the photographs, and a folder under the name of a result."""
    for name in ("a.png", "b.png", "d.png"):
        picture(tmp_path / "in" / name)
    (tmp_path / "in/c.png").symlink_to("c.png")
    (tmp_path / "out/b.png").mkdir(parents=True)
    long = tmp_path / ("n" * 256 + ".png")
    report = deblur_photographs(engine(), [tmp_path / "in", long], tmp_path / "out")
    assert tree(tmp_path / "out") == ["a.png", "d.png"]
    reasons = {one.source.name: one.reason for one in report.failed}
    assert set(reasons) == {"b.png", "c.png", long.name}
    assert "there is a folder of that name" in reasons["b.png"]


def test_each_photograph_is_shown_before_and_after(tmp_path: Path) -> None:
    """What ``mimo deblur --html`` makes its page of."""
    from engines.gallery import Gallery

    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((64, 96, 3), 128, np.uint8)).save(tmp_path / "in" / "mine.png")
    gallery = Gallery()
    engine = FakeEngine(lambda images: images * np.float32(0.5), 0)
    report = deblur_photographs(engine, [tmp_path / "in"], tmp_path / "out", show=gallery.add_photograph)
    assert [path.name for path in report.done] == ["mine.png"]
    gallery.write_photographs(tmp_path / "page.html", 1, "title", {})
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count('alt="mine.png, ') == 2
    assert "script" not in page
