"""What a command takes from the current directory when no file is named."""

from __future__ import annotations

from pathlib import Path

from mimo.artifact import Artifact, open_artifact
from mimo.errors import ArtifactError
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
