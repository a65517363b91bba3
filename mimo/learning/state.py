"""What changes while a network learns: one step of it, and writing all of it down to continue later, to the bit."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mimo.artifact import tool_versions
from mimo.errors import TrainingError
from mimo.learning.distributed import World
from mimo.learning.loss import deblur_loss
from mimo.learning.recipe import Recipe
from mimo.networks.checkpoint import Checkpoint, load_checkpoint
from mimo.networks.registry import build
from mimo.spec import ModelSpec

FORMAT = 1
# What a run's file holds, and as what.
_PARTS: dict[str, tuple[type, ...]] = {
    "model": (dict,), "raw": (dict, type(None)), "averaged": (int,), "optimizer": (dict,), "scaler": (dict,),
    "position": (dict,), "best": (dict,), "watchdog": (list,), "random": (list,), "recipe": (dict,), "data": (str,),
}  # fmt: skip
_AMP = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Watchdog:
    """Tells a loss that grows without end from one that merely jumps from crop to crop."""

    steps: int = 0
    mean: float = 0.0
    """Running, over about the last 50 steps."""
    lowest: float = math.inf
    """Of the running mean."""

    def trouble(self, loss: float) -> str | None:
        """What is wrong with the next loss, as the end of a sentence; None when nothing is."""
        if not math.isfinite(loss):
            return f"the loss became {loss}"
        self.steps += 1
        self.mean += (loss - self.mean) / min(self.steps, 50)
        if self.steps >= 50:
            self.lowest = min(self.lowest, self.mean)
        if self.mean > 20 * self.lowest:
            return f"the loss grew to {loss:.4g}, its running mean to 20 times the lowest one"
        return None


class Learner:
    """Network, running mean of its weights, optimizer, gradient scaler, random numbers and position of one run.

    The order of random events is fixed by the recipe: a run continued from what :meth:`save` wrote goes the same way, to
    the bit on a CPU, as one that was never interrupted.
    """

    def __init__(self, recipe: Recipe, world: World, *, fresh: bool = True) -> None:
        """``fresh``: begin at ``recipe.init``; otherwise :meth:`unpack` follows, and where the run began may be gone.

        Raises :class:`~mimo.errors.CheckpointError` or :class:`TrainingError` when that is no checkpoint of the network.
        """
        self.recipe = recipe
        self.world = world
        self.step = 0
        """Updates made."""
        self.samples = 0
        """Crops seen, by all processes together."""
        self.seconds = 0.0
        """Spent learning, over all sessions of the run; reported, never decided upon."""
        self.validated = 0
        """The last step that was validated."""
        self.best: float | None = None
        """The highest validation PSNR in dB."""
        self.best_step = 0
        self.watchdog = Watchdog()

        if world.device.type == "cuda":
            # Every batch has the same size, so the fastest algorithms are worth looking for once.
            torch.backends.cudnn.benchmark = True
        if recipe.amp == "off":
            # torch's own default is TF32, 10 bits of a mantissa's 23, in every convolution on a GPU.
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False

        # The same weights in every process, then random numbers (dropout) of each one's own.
        torch.manual_seed(recipe.seed)
        self.network = build(recipe.spec)
        if fresh and recipe.init is not None:
            self.network.load_state_dict(dict(_initial(recipe.init, recipe.spec).state))
        torch.manual_seed(recipe.seed * 65536 + world.rank)
        self.network.to(world.device)
        for parameter in self.network.parameters():
            # The order that the pictures have. A 1x1 kernel has the same bytes in both, but torch would tell them apart.
            if parameter.ndim == 4 and parameter.shape[2] > 1:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.average = (
            AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema)) if recipe.ema else None  # type: ignore[no-untyped-call]
        )
        self.optimizer: torch.optim.Optimizer
        if recipe.optimizer == "adamw":
            self.optimizer = torch.optim.AdamW(
                self.network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
            )
        else:
            self.optimizer = torch.optim.Adam(self.network.parameters(), lr=recipe.lr, fused=True)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=recipe.amp == "fp16")
        wrapped = world.wrap(self.network)
        self._forward: nn.Module = torch.compile(wrapped) if recipe.compile else wrapped  # type: ignore[assignment]

    @property
    def deployed(self) -> nn.Module:
        """The network that is validated and exported: the running mean where the recipe asks for one."""
        if self.average is None:
            return self.network
        network = self.average.module
        assert isinstance(network, nn.Module)
        return network

    def learn(self, blur: Tensor, sharp: Tensor, rate: float) -> Tensor:
        """One update from a batch, (N,3,P,P) in [0,1] each, on the device, at learning rate ``rate``.

        Returns content loss, frequency loss and the norm of the gradient before clipping, on the device: reading them
        would make a GPU wait.
        """
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        dtype = _AMP[self.recipe.amp]
        with torch.autocast(self.world.device.type, dtype=dtype, enabled=dtype != torch.float32):
            outputs = self._forward(blur)
        loss = deblur_loss(outputs, sharp)
        self.scaler.scale(loss.total).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        parameters = list(self.network.parameters())
        if self.recipe.grad_clip:
            norm = nn.utils.clip_grad_norm_(parameters, self.recipe.grad_clip)
        else:
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.step += 1
        self.samples += self.recipe.batch_size * self.world.size
        return torch.stack([loss.content.detach(), loss.frequency.detach(), norm.detach().float()])

    def finite(self) -> bool:
        """Whether every weight is."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in self.deployed.state_dict().values())

    def packed(self, data: str) -> bytes:
        """Everything, as a ``torch.save`` archive of tensors, numbers and text; every process must call this.

        ``model`` is what a deployment takes (so that the file is a checkpoint like the authors'), ``raw`` the weights
        that the optimizer moves where ``model`` is their mean. ``data``: the digest of the training data.
        """
        random = {"cpu": torch.get_rng_state()}
        if self.world.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.world.device)
        content = {
            "format": FORMAT,
            "model": self.deployed.state_dict(),
            "raw": None if self.average is None else self.network.state_dict(),
            "averaged": 0 if self.average is None else int(self.average.n_averaged),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "position": {"step": self.step, "samples": self.samples, "seconds": self.seconds, "validated": self.validated},
            "best": {"psnr": self.best, "step": self.best_step},
            "watchdog": [self.watchdog.steps, self.watchdog.mean, self.watchdog.lowest],
            # torch's generators, of every process. Nothing here draws from Python's or NumPy's global ones.
            "random": self.world.gather(random),
            "recipe": self.recipe.to_json(),
            "data": data,
            "tools": tool_versions("torch", "numpy"),
        }
        packed = io.BytesIO()
        torch.save(content, packed)
        return packed.getvalue()

    def unpack(self, content: Mapping[str, Any]) -> None:
        """Continue from what :func:`read_run` read, to the bit when there are as many processes as there were.

        Raises :class:`TrainingError` when a part of it is not what this network and optimizer have.
        """
        try:
            self._unpack(content)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise TrainingError(
                f"the checkpoint of the run is damaged or another network's ({str(error).splitlines()[0]:.100}): continue with "
                "--init from best.pt or weights.safetensors beside it."
            ) from error

    def _unpack(self, content: Mapping[str, Any]) -> None:
        self.network.load_state_dict(content["model"] if content["raw"] is None else content["raw"])
        if self.average is not None:
            self.average.module.load_state_dict(content["model"])
            self.average.n_averaged.fill_(content["averaged"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        position, best = content["position"], content["best"]
        self.step, self.samples, self.seconds = position["step"], position["samples"], position["seconds"]
        self.validated, self.best, self.best_step = position["validated"], best["psnr"], best["step"]
        self.watchdog = Watchdog(*content["watchdog"])
        if self.world.rank < len(content["random"]):
            random = content["random"][self.world.rank]
            torch.set_rng_state(random["cpu"])
            if self.world.device.type == "cuda" and "cuda" in random:
                torch.cuda.set_rng_state(random["cuda"], self.world.device)


def is_tf32(device: torch.device) -> bool:
    """Whether convolutions of float32 on ``device`` are computed in TF32."""
    return device.type == "cuda" and torch.backends.cudnn.allow_tf32


def _initial(path: Path, spec: ModelSpec) -> Checkpoint:
    checkpoint = load_checkpoint(path)
    if checkpoint.spec != spec:
        raise TrainingError(f"--init {path} is a {checkpoint.spec.name}: train it with --model {checkpoint.spec.name}.")
    return checkpoint


def read_run(path: Path) -> dict[str, Any]:
    """What :meth:`Learner.packed` wrote, on the CPU. No code in it is run. Raises :class:`TrainingError`."""
    if not path.is_file():
        raise TrainingError(f"{path} does not exist: --resume takes the --out folder of a run that has begun.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise TrainingError(f"{path} has format {content['format']}, this version reads {FORMAT}: update mimo.")
        for name, types in _PARTS.items():
            if not isinstance(content[name], types):
                raise TypeError(f"{name} is of another type")
        if len([float(number) for number in content["watchdog"]]) != 3 or not content["random"]:
            raise ValueError("numbers are missing")
        int(content["position"]["step"])
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise TrainingError(
            f"{path} is damaged or no checkpoint of a run ({error!s:.100}): continue with --init from best.pt or "
            "weights.safetensors beside it."
        ) from error
    return dict(content)
