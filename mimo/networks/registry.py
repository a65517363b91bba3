"""The networks, each one entry of a list. To add one, see docs/add-a-network.md. No torch here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mimo.errors import CheckpointError, MimoError
from mimo.networks.entry import MOST_BLOCKS, MOST_CHANNELS, Network, Parameters, Published, Shapes, Variant, channels, counted
from mimo.spec import ModelSpec, Parameter

if TYPE_CHECKING:
    from torch import nn

SPANDREL, ADOPTED = "spandrel", "adopted"
"""``ModelSpec.network`` of what is none of ours: an architecture of spandrel's, and a graph that came without a checkpoint."""

_GPU = "RTX 3090"

# MIMO-UNet


def _recognise_mimo_unet(shapes: Shapes) -> Parameters | None:
    first = "feat_extract.0.main.0.weight"
    if first not in shapes or not any(key.startswith("Encoder.0.layers.") for key in shapes):
        return None
    # With fewer channels than 2 the shallow features, which carry the image itself, have none left to compute.
    return {
        "residual_blocks": counted(shapes, r"Encoder\.0\.layers\.(\d+)\.", "MIMO-UNet"),
        "width": channels(shapes, first, "MIMO-UNet", least=2),
    }


def _build_mimo_unet(parameters: Parameters) -> nn.Module:
    from mimo.networks.mimo_unet import MIMOUNet

    return MIMOUNet(_number(parameters, "width"), _number(parameters, "residual_blocks"))


def _lean_mimo_unet(network: nn.Module) -> nn.Module:
    from mimo.networks.mimo_unet import MIMOUNet
    from mimo.networks.mimo_unet_lean import LeanMIMOUNet

    # What is made around it, such as MIMO-UNet++, is deployed as it is.
    return LeanMIMOUNet(network) if isinstance(network, MIMOUNet) else network


def _mimo_unet_context(parameters: Parameters) -> int:
    """Measured: 241 px for 8 blocks, 577 for 20.

    It grows by 28 px a block (7 maps of residual blocks: 1 px + 2 px + 4 px, twice each convolution), whatever the width.
    """
    radius = 17 + 28 * _number(parameters, "residual_blocks")
    return -(-radius // 4) * 4


MIMO_UNET = Network(
    name="mimo-unet",
    paper="Cho et al., Rethinking Coarse-to-Fine Approach in Single Image Deblurring, ICCV 2021",
    recognise=_recognise_mimo_unet,
    build=_build_mimo_unet,
    size_multiple=4,
    context=_mimo_unet_context,
    outputs=("quarter", "half", "sharp"),
    deployed=_lean_mimo_unet,
    variants=(
        Variant("mimo-unet", "MIMO-UNet", {"residual_blocks": 8, "width": 32}, Published(31.73, 0.012, 0.130, _GPU), 6_807_171),
        Variant(
            "mimo-unet-plus",
            "MIMO-UNet+",
            {"residual_blocks": 20, "width": 32},
            Published(32.45, 0.025, 0.282, _GPU),
            16_107_651,
        ),
        # Ours, not the authors': half the width, for machines without a GPU.
        Variant("mimo-unet-small", "mimo-unet-small (ours)", {"residual_blocks": 8, "width": 16}),
    ),
    other=lambda p: f"mimo-unet-w{p['width']}-b{p['residual_blocks']}",
)


# DMPHN


def _recognise_dmphn(shapes: Shapes) -> Parameters | None:
    first = "encoder_s1_lv1.layer1.weight"
    if first not in shapes:
        return None
    stages = {key.split("_")[1] for key in shapes if key.startswith("encoder_s") and key.endswith("_lv1.layer1.weight")}
    if stages != {f"s{number}" for number in range(1, len(stages) + 1)} or len(stages) > MOST_BLOCKS:
        raise CheckpointError(
            f"no DMPHN is like this: {len(stages)} stages that are not 1, 2, 3 ... without a gap; download the stacked "
            "network whole."
        )
    return {"stages": len(stages), "width": channels(shapes, first, "DMPHN")}


def _build_dmphn(parameters: Parameters) -> nn.Module:
    from mimo.networks.dmphn import DMPHN

    return DMPHN(_number(parameters, "stages"), _number(parameters, "width"))


DMPHN = Network(
    name="dmphn",
    paper="Zhang et al., Deep Stacked Hierarchical Multi-Patch Network for Image Deblurring, CVPR 2019",
    recognise=_recognise_dmphn,
    build=_build_dmphn,
    size_multiple=8,
    variants=(
        Variant("dmphn", "DMPHN", {"stages": 4, "width": 32}, Published(31.20, 0.308, 0.588, _GPU), 21_697_572),
        Variant("dmphn-1-2-4", "DMPHN 1-2-4", {"stages": 1, "width": 32}),
    ),
    other=lambda p: f"dmphn-w{p['width']}-s{p['stages']}",
    # The authors' unstacked networks have no stage in their names.
    key=lambda name: re.sub(r"^(encoder|decoder)_lv", r"\1_s1_lv", name),
)


# MT-RNN


def _recognise_mtrnn(shapes: Shapes) -> Parameters | None:
    if not {"conv1_1.0.weight", "conv2_c.0.weight", "img_prd.0.weight"} <= shapes.keys():
        return None
    return {"width": channels(shapes, "conv1_1.0.weight", "MT-RNN")}


def _build_mtrnn(parameters: Parameters) -> nn.Module:
    from mimo.networks.mtrnn import MTRNN

    return MTRNN(width=_number(parameters, "width"))


def _mtrnn_context(parameters: Parameters) -> int:
    """Measured: 555 px, 95 for the first of its six iterations and 92 for each further one, whatever the width."""
    return 556


MT_RNN = Network(
    name="mt-rnn",
    paper="Park et al., Multi-Temporal Recurrent Neural Networks for Progressive Non-Uniform Single Image Deblurring "
    "with Incremental Temporal Training, ECCV 2020",
    recognise=_recognise_mtrnn,
    build=_build_mtrnn,
    size_multiple=4,
    context=_mtrnn_context,
    variants=(Variant("mt-rnn", "MT-RNN", {"width": 32}, Published(31.15, 0.031, 0.394, _GPU), 2_635_547),),
    other=lambda p: f"mt-rnn-w{p['width']}",
)


# MPRNet


def _recognise_mprnet(shapes: Shapes) -> Parameters | None:
    if not {"shallow_feat1.0.weight", "concat23.weight", "sam12.conv1.weight"} <= shapes.keys():
        return None
    levels = [channels(shapes, f"stage1_encoder.encoder_level{level}.0.body.0.weight", "MPRNet") for level in (1, 2, 3)]
    reduced = channels(shapes, "shallow_feat1.1.CA.conv_du.0.weight", "MPRNet")
    blocks = counted(shapes, r"stage3_orsnet\.orb1\.body\.(\d+)\.", "MPRNet")
    return {
        "channels": tuple(levels),
        "last_channels": channels(shapes, "concat23.weight", "MPRNet"),
        "blocks": max(0, blocks - 1),
        "reduction": max(1, levels[0] // reduced),
    }


def _build_mprnet(parameters: Parameters) -> nn.Module:
    from mimo.networks.mprnet import MPRNet

    a, b, c = _numbers(parameters, "channels")
    last, blocks, reduction = (_number(parameters, name) for name in ("last_channels", "blocks", "reduction"))
    return MPRNet((a, b, c), last, blocks, reduction)


MPRNET = Network(
    name="mprnet",
    paper="Zamir et al., Multi-Stage Progressive Image Restoration, CVPR 2021",
    recognise=_recognise_mprnet,
    build=_build_mprnet,
    size_multiple=8,
    variants=(
        Variant(
            "mprnet",
            "MPRNet",
            {"channels": (96, 144, 192), "last_channels": 128, "blocks": 8, "reduction": 4},
            Published(32.66, 0.075, 1.474, _GPU),
            20_127_073,
        ),
    ),
    other=lambda p: "mprnet-w" + "-".join(map(str, _numbers(p, "channels"))),
)


# NAFNet


def _recognise_nafnet(shapes: Shapes) -> Parameters | None:
    if not {"intro.weight", "ending.weight", "encoders.0.0.conv1.weight", "encoders.0.0.beta"} <= shapes.keys():
        return None
    levels = range(counted(shapes, r"encoders\.(\d+)\.", "NAFNet"))
    if len(levels) > 8:
        raise CheckpointError(f"no NAFNet is like this: {len(levels)} levels; download the checkpoint again.")
    return {
        "width": channels(shapes, "intro.weight", "NAFNet"),
        "encoder_blocks": tuple(counted(shapes, rf"encoders\.{level}\.(\d+)\.", "NAFNet") for level in levels),
        "middle_blocks": counted(shapes, r"middle_blks\.(\d+)\.", "NAFNet"),
        "decoder_blocks": tuple(counted(shapes, rf"decoders\.{level}\.(\d+)\.", "NAFNet") for level in levels),
    }


def _build_nafnet(parameters: Parameters) -> nn.Module:
    from mimo.networks.nafnet import NAFNet

    return NAFNet(
        _number(parameters, "width"),
        _numbers(parameters, "encoder_blocks"),
        _number(parameters, "middle_blocks"),
        _numbers(parameters, "decoder_blocks"),
    )


def _nafnet(width: int) -> Parameters:
    return {"width": width, "encoder_blocks": (1, 1, 1, 28), "middle_blocks": 1, "decoder_blocks": (1, 1, 1, 1)}


def _nafnet_name(parameters: Parameters) -> str:
    encoder, decoder = (_numbers(parameters, f"{part}_blocks") for part in ("encoder", "decoder"))
    blocks = "-".join(map(str, (*encoder, _number(parameters, "middle_blocks"), *decoder)))
    return f"nafnet-w{parameters['width']}-b{blocks}"


NAFNET = Network(
    name="nafnet",
    paper="Chen et al., Simple Baselines for Image Restoration, ECCV 2022",
    recognise=_recognise_nafnet,
    build=_build_nafnet,
    size_multiple=lambda p: max(1, 2 ** len(_numbers(p, "encoder_blocks"))),
    variants=(
        Variant("nafnet-32", "NAFNet-32", _nafnet(32), Published(32.87), 17_111_907),
        Variant("nafnet-64", "NAFNet-64", _nafnet(64), Published(33.71), 67_888_835),
    ),
    other=_nafnet_name,
)


NETWORKS: tuple[Network, ...] = (DMPHN, MT_RNN, MPRNET, MIMO_UNET, NAFNET)
"""Every network, in the order of tables."""


def entry_of(spec: ModelSpec) -> Network:
    """The entry behind ``spec``. Raises :class:`CheckpointError` for what is none of :data:`NETWORKS`."""
    for entry in NETWORKS:
        if entry.name == spec.network:
            return entry
    raise CheckpointError(f"{spec.name} is none of mimo's own networks ({_names()}).")


def deployed_form(spec: ModelSpec) -> Callable[[nn.Module], nn.Module] | None:
    """What makes the leaner form in which a network is deployed, see :class:`Network`; None where it has none."""
    return None if spec.network in (SPANDREL, ADOPTED) else entry_of(spec).deployed


def named(name: str) -> ModelSpec:
    """The variant called ``name``, such as ``mimo-unet-plus``. Raises :class:`~mimo.errors.MimoError` that lists them."""
    for entry in NETWORKS:
        for variant in entry.variants:
            if variant.name == name:
                return entry.spec(variant.parameters)
    known = ", ".join(variant.name for entry in NETWORKS for variant in entry.variants)
    raise MimoError(f"no network is called {name[:60]!r}: choose one of {known}.")


def mimo_unet(width: int, residual_blocks: int) -> ModelSpec:
    """MIMO-UNet of ``width`` channels at full size, with so many residual blocks in each stage."""
    return MIMO_UNET.spec({"residual_blocks": residual_blocks, "width": width})


def own(name: str, width: int | None = None, residual_blocks: int | None = None) -> ModelSpec:
    """The variant called ``name`` with another width or depth, where the network has one.

    Raises :class:`~mimo.errors.MimoError` for an unknown name, a parameter that the network has not, and one out of range.
    """
    spec = named(name)
    asked = {"width": width, "residual_blocks": residual_blocks}
    chosen = {key: value for key, value in asked.items() if value is not None}
    for key, value in chosen.items():
        if key not in spec.parameters:
            raise MimoError(f"{name} has no {key.replace('_', ' ')} to choose: leave it out.")
        least, most = (2, MOST_CHANNELS) if key == "width" else (1, MOST_BLOCKS)
        if not least <= value <= most:
            raise MimoError(f"the {key.replace('_', ' ')} of {name} must be from {least} to {most}, got {value}.")
    return entry_of(spec).spec({**spec.parameters, **chosen})


def recognise(shapes: Shapes) -> ModelSpec:
    """The spec behind a state dict's ``{key: shape}``, from its own keys alone; that all of them fit is checked by loading.

    Raises :class:`CheckpointError` where it is of no network of :data:`NETWORKS`.
    """
    for entry in NETWORKS:
        if (parameters := entry.recognise({entry.key(key): shape for key, shape in shapes.items()})) is not None:
            return entry.spec(parameters)
    raise CheckpointError(f"this is a checkpoint of another network: the keys of {_names()} are looked for.")


def build(spec: ModelSpec) -> nn.Module:
    """A new network with random weights, in training mode; needs torch. Raises as :func:`entry_of` does."""
    return entry_of(spec).build(spec.parameters)


def spec_from_json(values: Mapping[str, Any]) -> ModelSpec:
    """Read :meth:`ModelSpec.to_json` back, or what older versions wrote of a MIMO-UNet.

    What the registry knows of a network is taken from there, not from ``values``: they cannot say another name, multiple or
    context. Raises ``ValueError``, ``KeyError`` or ``TypeError`` for what is no spec.
    """
    name, multiple = values["name"], values["size_multiple"]
    if not isinstance(name, str) or not 0 < len(name) <= 200 or type(multiple) is not int or not 1 <= multiple <= 1024:
        raise ValueError("name or size_multiple")
    if "network" not in values:
        depth, width = values["residual_blocks"], values["width"]
        if (depth, width) == (0, 0):
            return ModelSpec(name, ADOPTED, {}, multiple)
        network, parameters = MIMO_UNET.name, {"residual_blocks": depth, "width": width}
    else:
        network, parameters = values["network"], values["parameters"]
    read = {str(key): _parameter(value) for key, value in parameters.items()}
    entry = next((one for one in NETWORKS if one.name == network), None)
    if entry is None:
        if network not in (SPANDREL, ADOPTED):
            raise ValueError(f"network {str(network)[:60]!r}")
        return ModelSpec(name, network, read, multiple)
    if read.keys() != entry.variants[0].parameters.keys():
        raise ValueError("parameters")
    if any(type(value) is not type(entry.variants[0].parameters[key]) for key, value in read.items()):
        raise ValueError("parameters")
    spec = entry.spec(read)
    if (spec.name, spec.size_multiple) != (name, multiple):
        raise ValueError("the name and the size multiple are not those of the parameters")
    return spec


def _parameter(value: object) -> Parameter:
    if isinstance(value, list) and len(value) <= 16:
        return tuple(_whole(part) for part in value)
    if isinstance(value, str) and len(value) <= 200:
        return value
    return _whole(value)


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MOST_CHANNELS:
        raise ValueError("a parameter is no number from 0 to 4,096")
    return value


def _number(parameters: Parameters, name: str) -> int:
    value = parameters[name]
    assert isinstance(value, int)
    return value


def _numbers(parameters: Parameters, name: str) -> tuple[int, ...]:
    value = parameters[name]
    assert isinstance(value, tuple)
    return value


def _names() -> str:
    return ", ".join(entry.name for entry in NETWORKS)
