"""The fake NVML of the tests is like the real one."""

from __future__ import annotations

import inspect
import re

import pytest

from benchmarks.nvml import THROTTLE_REASONS
from tests.benchmarks.fake_nvml import CONSTANTS, FakeNvml, functions


def test_the_fake_is_like_nvidia_ml_py() -> None:
    real = pytest.importorskip("pynvml")
    assert {name: getattr(real, name) for name in CONSTANTS} == CONSTANTS
    for name, function in functions(FakeNvml()).items():
        # convertStrBytes hides the arguments of some.
        theirs = list(inspect.signature(inspect.unwrap(getattr(real, name))).parameters.values())
        needed = [one for one in theirs if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
        if not any(one.kind is one.VAR_POSITIONAL for one in theirs):
            assert len(needed) == len(inspect.signature(function).parameters), name


def test_every_reason_has_nvmls_name() -> None:
    real = pytest.importorskip("pynvml")
    names: dict[int, set[str]] = {}
    for name in dir(real):
        if found := re.fullmatch(r"nvmlClocks(?:Event|Throttle)Reason(?!None|All|GpuIdle)(\w+)", name):
            names.setdefault(getattr(real, name), set()).add(re.sub(r"(?<!^)(?=[A-Z])", "_", found[1]).lower())
    assert len(names) >= 8
    for bit, theirs in names.items():
        assert THROTTLE_REASONS[bit] in theirs
