"""What a file is, by its content, and why a sound one may still be beyond the reader."""

from __future__ import annotations

from typing import Literal

from mimo.containers import jpeg, tiff
from mimo.containers.ifd import MalformedError

Format = Literal["jpeg", "png", "tiff", "webp"]

_FOREIGN = (
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF document"),
    (b"II\xbc\x01", "a JPEG XR picture"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file"),
    (b"IIRO", "a camera's raw file"),
    (b"IIU\0", "a camera's raw file"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"\x8aMNG", "an MNG animation"),
)
_BRANDS = {
    b"avif": "an AVIF picture", b"avis": "an AVIF sequence", b"crx ": "a camera's raw file (CR3)", b"jxl ": "a JPEG XL picture",
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "a HEIC picture"),
}  # fmt: skip
_CONTAINER_BRANDS = dict.fromkeys((b"mif1", b"msf1", b"mif2", b"miaf"), "a HEIF picture")
"""They say how a picture is wrapped and not how it is coded: HEIC and AVIF have them both (ISO/IEC 23008-12, 23000-22)."""
_COMPRESSIONS = {
    2: "CCITT", 3: "CCITT fax", 4: "CCITT fax", 6: "old-style JPEG", 7: "JPEG", 9: "JBIG", 10: "JBIG", 32766: "NeXT",
    32809: "ThunderScan", 32908: "PixarFilm", 32909: "PixarLog", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000",
    34661: "JBIG", 34676: "SGI Log", 34677: "SGI Log", 34712: "JPEG 2000", 34713: "NEF", 34887: "LERC",
    34892: "lossy JPEG (DNG)", 34925: "LZMA", 34926: "Zstandard", 34927: "WebP", 34933: "PNG", 34934: "JPEG XR",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_USUAL = {1, 5, 8, 32773, 32946}
_PHOTOMETRICS = {
    4: "a transparency mask", 5: "CMYK", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*",
    32803: "a camera's raw sensor data", 32844: "LogL", 32845: "LogLuv", 34892: "linear raw data",
}  # fmt: skip
_FRAMES = {0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical", 0xF7: "JPEG-LS"}


def format_of(head: bytes) -> Format | None:
    """The container that ``head``, a file's first bytes, begins."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "tiff"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    return None


def foreign(head: bytes) -> str | None:
    """The name of another format that people keep photographs in."""
    if head[4:8] == b"ftyp":
        brands = (head[8:12], *_compatible(head))
        return next((known[brand] for known in (_BRANDS, _CONTAINER_BRANDS) for brand in brands if brand in known), None)
    return next((name for magic, name in _FOREIGN if head.startswith(magic)), None)


def unread(kind: Format, data: bytes) -> str | None:
    """What about a file the reader may lack, when it could not read it; None where it is as files usually are."""
    if kind == "jpeg":
        return _unread_jpeg(data)
    if kind == "tiff":
        return _unread_tiff(data)
    if kind == "png" and data[12:16] == b"CgBI":
        return "a PNG in Apple's own coding (CgBI)"
    return None


def refused_tiff(data: bytes) -> str | None:
    """A TIFF that would be read, but as something that it is not."""
    try:
        page = tiff.first_page(data)
    except MalformedError:
        return None
    if 50706 in page or data[8:10] == b"CR":
        return "a camera's raw file"
    if page.get(254, (0,)) and page.get(254, (0,))[0] & 1 and (330 in page or 0x8769 not in page):
        return "a TIFF whose first page is a thumbnail"
    return None


def _compatible(head: bytes) -> list[bytes]:
    size = min(int.from_bytes(head[:4], "big"), 256)
    return [head[at : at + 4] for at in range(16, size - 3, 4)]


def _unread_jpeg(data: bytes) -> str | None:
    segments, _, _ = jpeg.parse(data)
    for segment in segments:
        if segment.marker in _FRAMES:
            return f"a {_FRAMES[segment.marker]} JPEG"
        if 0xC9 <= segment.marker <= 0xCF and segment.marker != 0xCC:
            return "a JPEG with arithmetic coding"
        if segment.marker in (0xC0, 0xC1, 0xC2):
            bits = segment.data[0] if segment.data else 8
            return f"a JPEG of {bits} bits per sample" if bits != 8 else None
    return None


def _unread_tiff(data: bytes) -> str | None:
    try:
        page = tiff.first_page(data)
    except MalformedError:
        return None
    compression, photometric, bits = (page.get(tag) or (usual,) for tag, usual in ((259, 1), (262, 2), (258, 1)))
    if photometric[0] in _PHOTOMETRICS:
        return f"a TIFF that holds {_PHOTOMETRICS[photometric[0]]}"
    if compression[0] not in _USUAL:
        return f"a TIFF compressed with {_COMPRESSIONS.get(compression[0], f'scheme {compression[0]}')}"
    if any(value not in (1, 2, 4, 8, 16, 32, 64) for value in bits) or len(set(bits)) > 1:
        return f"a TIFF of {'/'.join(map(str, dict.fromkeys(bits)))} bits per sample"
    return None
