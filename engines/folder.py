"""What a command takes from the current directory when no file is named."""

from __future__ import annotations

import os
from pathlib import Path

from mimo.artifact import Artifact, open_artifact, verification_of
from mimo.errors import ArtifactError
from mimo.outputs import LONGEST_NAME
from mimo.terminal import report_failure


def only_fp32_onnx(refused: list[Path]) -> Artifact:
    """The one FP32 graph in the current directory; other files are reported, added to ``refused`` and skipped."""
    found = []
    for path in sorted(path for path in Path().glob("*.onnx") if not path.name.startswith(".") and not path.is_dir()):
        try:
            found.append(open_artifact(path))
        except ArtifactError as error:
            refused.append(path)
            report_failure(str(path), str(error))
    match [artifact for artifact in found if artifact.precision == "fp32"]:
        case [one]:
            return one
        case []:
            raise ArtifactError(
                "there is no FP32 ONNX file in the current directory: run mimo export --to onnx first, or name one."
            )
        case several:
            raise ArtifactError(f"there are several ONNX files ({', '.join(one.path.name for one in several)}): name one.")


def with_room_for_a_report(paths: list[Path], refused: list[tuple[Path, ArtifactError]]) -> list[Path]:
    """Those of ``paths`` beside which a report of ``mimo verify`` can lie; of several, the others go to ``refused``."""
    fitting = []
    for path in paths:
        if len(paths) > 1 and len(os.fsencode(verification_of(path).name)) > LONGEST_NAME:
            refused.append((path, ArtifactError("the report beside it would have too long a name: give it a shorter one.")))
        else:
            fitting.append(path)
    return fitting
