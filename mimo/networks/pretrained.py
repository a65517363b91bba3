"""The authors' published weights: listed, fetched from where they put them, converted to safetensors.

The files are on Google Drive and nobody published their hashes, so the first fetch records what came and every later one
is compared with it. Converting needs torch; listing does not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mimo.errors import CheckpointError, MimoError, OutputError
from mimo.files import atomic, cause_of, sha256_of, write_json
from mimo.installing import install

SCHEMA = 1
RETRIES = 3
"""How often a broken connection is taken up again, some seconds apart, before a fetch fails."""
TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""

Progress = Callable[[int, int | None], None]
"""Called while downloading with the bytes so far and the total, or None where the server does not say."""


@dataclass(frozen=True)
class Published:
    """One file the authors published."""

    name: str
    spec_name: str
    """The variant of a network it must turn out to be."""
    data: str
    """The dataset it was trained on."""
    url: str

    @property
    def file_name(self) -> str:
        """Of the converted file."""
        return f"{self.name}.safetensors"


def _drive(file_id: str) -> str:
    return f"https://drive.google.com/uc?id={file_id}"


PUBLISHED = {
    entry.name: entry
    for entry in (
        Published("mimo-unet-gopro", "mimo-unet", "GoPro", _drive("1EQJoQj3YMLFfzrbgzWMD3Xj96RqLdIlx")),
        Published("mimo-unet-plus-gopro", "mimo-unet-plus", "GoPro", _drive("166sufeHcdDTgXHNbCRzTC4T6DzuflB5m")),
        Published("mimo-unet-plus-realblur", "mimo-unet-plus", "RealBlur", _drive("1N3n-ozw1twt96ohX4tjsSAIcHrlNwHZ7")),
    )
}
"""By name. Source: the README of the authors' repository, github.com/chosj95/MIMO-UNet."""


def named(name: str) -> Published:
    """The published file called ``name``. Raises :class:`CheckpointError` that lists the names."""
    if name not in PUBLISHED:
        raise CheckpointError(f"no published weights are called {name!r}: there are {', '.join(PUBLISHED)}.")
    return PUBLISHED[name]


def record_of(path: Path) -> Path:
    """``mimo-unet-gopro.safetensors`` -> ``mimo-unet-gopro.fetched.json``, which holds the hashes of the first fetch."""
    return path.with_suffix(".fetched.json")


def fetch(published: Published, folder: Path, progress: Progress | None = None) -> Path:
    """Download ``published`` to ``folder`` and convert it; the path of the safetensors file. Needs gdown and torch.

    A file that is there and has the recorded hash is left as it is, without a connection. An interrupted download leaves
    a ``.part`` file, from which the next call continues; what was downloaded is removed once it is converted.

    Raises :class:`CheckpointError` when the download fails (then with the way to do it by hand), when what came is not
    what the first fetch recorded or not this network, and when the file here changed since; whatever stood in ``folder``
    is then untouched. :class:`~mimo.errors.OutputError` when it cannot be written, :class:`MimoError` without gdown.
    """
    target = folder / published.file_name
    recorded = _recorded(record_of(target))
    if target.is_file():
        if recorded is None:
            raise CheckpointError(
                f"{target} is there without {record_of(target).name}, so nothing says what it is: move it away, then fetch."
            )
        if sha256_of(target) != recorded["sha256"]:
            raise CheckpointError(f"{target} has changed since it was fetched: delete it and fetch it again.")
        return target

    download = _download(published, folder, progress)
    try:
        downloaded = sha256_of(download)
        if recorded is not None and downloaded != recorded["download_sha256"]:
            raise CheckpointError(
                f"{published.url} gave another file (sha256 {downloaded[:12]}) than at the first fetch "
                f"({recorded['download_sha256'][:12]}), and it was refused: if the authors replaced it, delete "
                f"{record_of(target)} and fetch again."
            )
        with atomic(target) as temporary:
            _convert(published, download, downloaded, temporary)
            # Before the file takes its place: a record without a file is fetched again, a file without one is refused.
            write_json(
                record_of(target),
                {
                    "schema": SCHEMA,
                    "name": published.name,
                    "url": published.url,
                    "fetched": recorded["fetched"] if recorded else datetime.now(UTC).isoformat(timespec="seconds"),
                    "download_sha256": downloaded,
                    "sha256": sha256_of(temporary),
                },
            )
    finally:
        download.unlink(missing_ok=True)
    return target


def _recorded(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA or not all(
            isinstance(content[key], str) for key in ("sha256", "download_sha256", "fetched")
        ):
            raise ValueError("not of this schema")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): delete it and fetch again.") from error
    return dict(content)


def _convert(published: Published, download: Path, sha256: str, target: Path) -> None:
    from mimo.networks.checkpoint import load_checkpoint, save_checkpoint

    try:
        checkpoint = load_checkpoint(download)
    except CheckpointError as error:
        raise CheckpointError(f"what {published.url} gave was refused and removed ({error}) {_by_hand(published)}") from error
    if checkpoint.spec.name != published.spec_name:
        raise CheckpointError(
            f"{published.url} gave weights of {checkpoint.spec.name}, not of {published.spec_name}; they were refused and "
            f"removed. {_by_hand(published)}"
        )
    lineage = {
        "origin": "published by the authors of MIMO-UNet",
        "data": published.data,
        "url": published.url,
        "download_sha256": sha256,
    }
    save_checkpoint(target, checkpoint.spec, checkpoint.state, lineage)


def _download(published: Published, folder: Path, progress: Progress | None) -> Path:
    """The file as the authors published it, whole, in ``folder``; what an earlier call left unfinished is continued."""
    try:
        import gdown
        import requests
    except ImportError as error:
        raise MimoError(
            f"gdown, which downloads from Google Drive, is not installed: {install('weights')}. {_by_hand(published)}"
        ) from error
    # Hidden, and of a suffix of our own: it is removed in the end, and must not be a file that somebody put there.
    output = folder / f".{published.name}.download"

    def attempt() -> None:
        gdown.download(
            url=published.url,
            output=str(output),
            quiet=True,
            use_cookies=False,
            resume=True,
            timeout=TIMEOUT,
            retries=RETRIES,
            progress=progress,
        )

    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = _unfinished(output)
        try:
            attempt()
        except gdown.DownloadError as error:
            # A server that cannot continue, or has a file of another length now, refuses every time: start over. A
            # connection that broke has a cause; Drive's own refusals are of a class of their own.
            refused = error.__cause__ is None and not isinstance(error, gdown.FileURLRetrievalError)
            if not (before and refused and _unfinished(output) == before):
                raise
            for part in before:
                part.unlink()
            attempt()
    except (gdown.DownloadError, requests.RequestException) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{published.name} could not be downloaded ({reason[:300]}). {_by_hand(published)}") from error
    except OSError as error:
        raise OutputError(f"{folder} could not be written: {cause_of(error)}") from error
    return output


def _unfinished(output: Path) -> dict[Path, int]:
    """gdown's unfinished downloads of ``output``, with their sizes in bytes."""
    return {path: path.stat().st_size for path in output.parent.glob(f"{output.name}????????.part")}


def _by_hand(published: Published) -> str:
    return (
        f"By hand: open {published.url} in a browser, on any machine, and save the file. "
        "Then give its path wherever mimo asks for a checkpoint: the authors' .pkl is read as it is."
    )
