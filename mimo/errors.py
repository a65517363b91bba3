"""Everything this project raises on purpose.

    MimoError                 a sentence with cause and cure; the command line prints it and exits with code 2
    +-- ShapeError            a size or a profile that cannot be
    +-- CheckpointError       no checkpoint, one of another network, or one that wants to run code
    +-- ArtifactError         a file that is not what its sidecar or its metadata says, or that nothing can read
    +-- ExportError           the exported graph is not what was asked for
    +-- BuildError            TensorRT could not build the engine, or built it in another precision
    +-- EngineUnavailable     the runtime or the device that was asked for is not here
    +-- EngineError           the runtime was there and failed
    |   +-- OutOfMemory       for want of memory
    +-- ImageError            a picture that cannot be read or written
    +-- DataError             a dataset that is not what it should be
    +-- TrainingError         a training that cannot begin or go on
    +-- OutputError           a result that cannot be written (full disk, permissions)

Whatever else is raised is a defect of this project.
"""

from __future__ import annotations


class MimoError(Exception):
    """Base of all errors a user can cause. The message is one sentence with its cause and its cure.

    Further arguments are details, each a line of its own.
    """

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class ShapeError(MimoError):
    """An invalid size, batch or optimisation profile."""


class CheckpointError(MimoError):
    """A file that is no checkpoint of this network, or one that is refused because it wants to run code."""


class ArtifactError(MimoError):
    """A file that is not the artifact it is said to be."""


class ExportError(MimoError):
    """An export whose result did not pass its checks; nothing was written."""


class BuildError(MimoError):
    """An engine that could not be built as asked; nothing was written."""


class EngineUnavailable(MimoError):
    """A runtime or a device that was asked for and is not available. Nothing else is tried in its place."""


class EngineError(MimoError):
    """A runtime that is available and failed."""


class OutOfMemory(EngineError):
    """A runtime that asked for memory in vain; for something smaller it may suffice."""


class ImageError(MimoError):
    """A picture that cannot be read or written."""


class OutputError(MimoError):
    """A result that cannot be written; whatever stood there before is untouched."""


class DataError(MimoError):
    """Pictures that make no dataset: a missing partner, unequal sizes, a folder that is not the one expected."""


class TrainingError(MimoError):
    """A run that cannot start as asked, or that stopped on its own: diverged, lost a worker, ran out of memory."""
