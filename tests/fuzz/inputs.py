"""Hypothesis strategies for hostile inputs: mutated bytes, JSON of other types, graphs cut open, pickles that run code."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import struct
from collections.abc import Callable
from typing import Any

import onnx
import torch
from hypothesis import strategies as st

from tests.fuzz.child import CANARY

NUMBERS = st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1])
PLACES = st.floats(0, 1, exclude_max=True)


@st.composite
def damaged(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """One of ``seeds`` with a few bytes set, sizes made extreme, parts cut, doubled, or taken from another seed."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        # Headers are where readers decide: half of the changes fall into the first bytes.
        reach = len(data) if draw(st.booleans()) else min(len(data), 400)
        at = int(draw(PLACES) * max(1, reach))
        match draw(st.sampled_from(["byte", "size", "cut", "end", "double", "noise", "splice"])):
            case "byte":
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "size":
                size = draw(st.sampled_from(["<H", ">H", "<I", ">I", "<Q", ">Q"]))
                packed = struct.pack(size, draw(NUMBERS) & (256 ** struct.calcsize(size) - 1))
                data[at : at + len(packed)] = packed
            case "cut":
                del data[at : at + draw(st.integers(1, 64))]
            case "end":
                del data[at:]
            case "double":
                data[at:at] = data[at : at + draw(st.integers(1, 256))]
            case "noise":
                data[at:at] = draw(st.binary(min_size=1, max_size=32))
            case "splice":
                other = draw(st.sampled_from(seeds))
                data[at:] = other[int(draw(PLACES) * len(other)) :]
    return bytes(data)


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


JUNK: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([
        None, True, -1, 0, 2**70, 10**400, 1.5, float("nan"), float("inf"), "", "\ud800", "\0", "../../etc/passwd", "/dev/zero",
        "x" * 10_000, [], {}, [[]], {"": None}, "NaN", "9" * 6000, "1x16x16", "-1", "mimo-unet", _nested(50), _nested(900),
    ]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=8,
    ),
)  # fmt: skip


@st.composite
def changed(draw: st.DrawFn, value: Any, junk: st.SearchStrategy[Any] = JUNK) -> Any:
    """``value``, of JSON's types, with entries replaced, taken away, added or renamed, at any depth."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        if not isinstance(value, dict | list) or not value or draw(st.integers(0, 20)) == 0:
            return draw(junk)
        at = value
        while True:
            keys: list[Any] = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = draw(st.sampled_from(keys))
            if not isinstance(at[key], dict | list) or not at[key] or draw(st.booleans()):
                break
            at = at[key]
        match draw(st.sampled_from(["replace", "replace", "remove", "add"])):
            case "replace":
                at[key] = draw(junk)
            case "remove":
                del at[key]
            case "add" if isinstance(at, dict):
                at[draw(st.text(max_size=12))] = draw(junk)
            case _:
                at.append(draw(junk)) if isinstance(at, list) else None
    return value


@st.composite
def json_text(draw: st.DrawFn, value: Any) -> bytes:
    """A JSON document like ``value``: of other types, deeply nested, cut, or no JSON."""
    match draw(st.sampled_from(["types", "types", "types", "bytes", "deep"])):
        case "types":
            return json.dumps(draw(changed(value))).encode()
        case "bytes":
            return draw(damaged((json.dumps(value).encode(),)))
        case _:
            depth = draw(st.sampled_from([500, 5_000, 100_000]))
            return draw(st.sampled_from([b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth]))


@st.composite
def graph(draw: st.DrawFn, source: bytes) -> bytes:
    """An ONNX file with nodes, weights, values and opsets changed."""
    model = onnx.load_from_string(source)
    nodes, weights = model.graph.node, model.graph.initializer
    for _ in range(draw(st.integers(1, 3))):
        node, weight = (draw(st.sampled_from(list(some))) for some in (nodes, weights))
        match draw(st.sampled_from(["inputs", "kind", "setting", "loop", "dims", "type", "raw", "rename", "opset", "external",
                                    "drop", "branch", "value", "output", "domain"])):  # fmt: skip
            case "inputs":
                del node.input[draw(st.integers(0, 2)) :]
            case "kind":
                node.op_type = draw(st.sampled_from(["Conv", "Loop", "If", "Scan", "Resize", "LSTM", "Nothing", "Cast", "Pad"]))
            case "setting":
                node.attribute.append(
                    onnx.helper.make_attribute(
                        draw(st.sampled_from(["strides", "pads", "group", "kernel_shape", "dilations", "axis", "x"])),
                        draw(st.one_of(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4), st.just("text"))),
                    )
                )
            case "loop":
                node.input[:1] = [draw(st.sampled_from(list(nodes))).output[0]]
            case "dims":
                weight.dims[:] = draw(st.lists(st.integers(-2, 2**62), max_size=5))
            case "type":
                weight.data_type = draw(st.integers(0, 40))
            case "raw":
                weight.raw_data = weight.raw_data[: draw(st.integers(0, 40))]
            case "rename":
                weight.name = draw(st.text(max_size=8))
            case "opset":
                model.opset_import[0].version = draw(st.sampled_from([-1, 0, 1, 7, 12, 23, 99, 2**40]))
            case "external":
                weight.data_location = onnx.TensorProto.EXTERNAL
                weight.external_data.add(key="location", value=draw(st.sampled_from(["/etc/passwd", "../x", ""])))
            case "drop":
                nodes.remove(node)
                if not nodes:
                    return bytes(model.SerializeToString())
            case "branch":
                inner = onnx.helper.make_graph([], "inner", [], [])
                for _ in range(draw(st.sampled_from([1, 24, 90]))):
                    branch = onnx.helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=inner)
                    inner = onnx.helper.make_graph([branch], "outer", [], [])
                    if inner.ByteSize() > 2**20:
                        break
                nodes.extend(inner.node)
            case "value":
                value = draw(st.sampled_from(list(model.graph.input) + list(model.graph.output)))
                value.type.tensor_type.elem_type = draw(st.integers(0, 30))
                del value.type.tensor_type.shape.dim[draw(st.integers(0, 4)) :]
            case "output":
                node.output[:1] = [draw(st.sampled_from(list(nodes))).output[0]]
            case "domain":
                node.domain = draw(st.text(max_size=8))
    return bytes(model.SerializeToString())


@st.composite
def safetensors(draw: st.DrawFn, source: bytes) -> bytes:
    """A safetensors file whose header says something else than its tensors."""
    (length,) = struct.unpack("<Q", source[:8])
    header = json.dumps(draw(changed(json.loads(source[8 : 8 + length])))).encode()
    said = draw(st.sampled_from([len(header), len(header), len(header), 0, 2**40, 2**64 - 1]))
    return struct.pack("<Q", said) + header + source[8 + length :]


class _Calls:
    """Unpickled by a careless reader, it calls ``function``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


HOSTILE = (
    _Calls(os.system, f"touch {CANARY}"),
    _Calls(eval, f"open({CANARY!r}, 'w')"),
    _Calls(exec, f"open({CANARY!r}, 'w')"),
    _Calls(open, CANARY, "w"),
    _Calls(os.mkdir, CANARY),
    _Calls(getattr, _Calls(__import__, "os"), "system"),
)


@st.composite
def hostile_pickle(draw: st.DrawFn, state: dict[str, Any]) -> bytes:
    """A pickle that wants to run code somewhere: bare, or in what ``torch.save`` writes, then at times damaged as well."""
    payload = draw(st.sampled_from(HOSTILE))
    content = draw(st.sampled_from([payload, {"state_dict": payload}, {**state, "x": payload}, {"a": [payload]}]))
    out = io.BytesIO()
    if draw(st.booleans()):
        pickle.dump(content, out, protocol=draw(st.integers(0, 5)))
    else:
        torch.save(content, out, _use_new_zipfile_serialization=draw(st.booleans()))
    return out.getvalue() if draw(st.booleans()) else draw(damaged((out.getvalue(),)))


@st.composite
def odd_state(draw: st.DrawFn, state: dict[str, torch.Tensor]) -> bytes:
    """What ``torch.save`` wrote of tensors that are none of the network's: nested, expanded, sparse, of other types."""
    content: dict[Any, Any] = dict(state)
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(list(state)))
        value = draw(
            st.sampled_from([
                torch.zeros(()), torch.zeros(0), torch.zeros(1).expand(2**20, 2**20), torch.zeros(3, dtype=torch.complex64),
                torch.zeros(2, 2).to_sparse(), torch.full((8, 3, 3, 3), float("nan")), torch.zeros(3, dtype=torch.bool),
                torch.empty(4, device="meta"), 3, "text", None, {}, [torch.zeros(3)], {"deep": {"deeper": torch.zeros(3)}},
            ])
        )  # fmt: skip
        match draw(st.sampled_from(["replace", "rename", "number", "remove"])):
            case "replace":
                content[key] = value
            case "rename":
                content[draw(st.text(max_size=30) | st.sampled_from(["9" * 5000, "Encoder.99999999.x", "\ud800"]))] = value
            case "number":
                content[draw(st.integers() | st.none() | st.booleans())] = value
            case "remove":
                content.pop(key, None)
    out = io.BytesIO()
    torch.save(draw(st.sampled_from([content, {"state_dict": content}, {"epoch": value, "model": content}])), out)
    return out.getvalue()


@st.composite
def saved(draw: st.DrawFn, content: dict[str, Any]) -> bytes:
    """What ``torch.save`` writes of ``content`` with parts changed."""
    simple: st.SearchStrategy[Any] = st.sampled_from([None, -1, 10**40, float("nan"), "x", [], {}, torch.zeros(2), True])
    out = io.BytesIO()
    torch.save(draw(changed(content, simple)), out)
    return out.getvalue() if draw(st.booleans()) else draw(damaged((out.getvalue(),)))


TEXTS = st.one_of(
    st.text(max_size=60),
    st.from_regex(r"-?[0-9]{0,12}[x:,][0-9]{0,12}([x:,][0-9.e+-]{0,12}){0,3}", fullmatch=True),
    st.sampled_from(
        ["", "x", "1e30", "1e999", "nan", "-inf", "0x0", "x" * 6000, "9" * 5000, "100000x100000", "²x²", "1x3x16x16"]
    ),
)
"""Values of options, as typed."""
