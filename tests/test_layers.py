"""The arrows between the folders, and what each may import, read from the source."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ARROWS = {
    "cli": {"cli", "benchmarks", "engines", "export", "mimo"},
    "benchmarks": {"benchmarks", "engines", "mimo"},
    "engines": {"engines", "mimo"},
    "export": {"export", "mimo"},
    "mimo": {"mimo"},
}
"""What each part of the project may import of the others. Export and engines meet through files."""

COMMANDS = {
    "benchmarks.commands", "engines.commands", "engines.serving.commands", "export.commands", "mimo.commands",
    "mimo.learning.commands",
}  # fmt: skip
"""The edge of each room: it may import any room, inside its functions, and only ``cli`` imports it."""
THE_TABLE = "benchmarks.table"
"""It takes each network through export itself, so that a row says what became of it."""
ENTRY = "mimo.__main__"
"""``python -m mimo``: the one module below that knows the command line."""

HEAVY = {
    "torch", "numpy", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "openvino", "polygraphy", "pyvips", "PIL", "safetensors",
    "tensorrt", "tensorrt_rtx", "cuda", "pycuda", "skimage", "cv2", "jinja2", "matplotlib", "fastapi", "uvicorn",
}  # fmt: skip
NO_TORCH = ("artifact", "spec", "kinds", "errors", "files", "images", "transparency", "metrics", "bundled", "onnx_stats")
"""Modules of ``mimo`` for deployment, where there may be no torch."""

SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "cli.py", *(file for part in ARROWS for file in sorted((ROOT / part).rglob("*.py"))))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}


def imports(tree: ast.AST, *, at_import: bool = False) -> Iterator[str]:
    """Full names of what is imported anywhere; with ``at_import`` only of what runs when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif at_import and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for other in node.orelse:
                yield from imports(ast.Module([other], []), at_import=True)
        else:
            yield from imports(node, at_import=at_import)


def packages(names: Iterator[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def loaded_by(module: str) -> set[str]:
    """Everything outside the project that importing ``module`` imports, through whatever else of the project."""
    outside: set[str] = set()
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        parent = name.rpartition(".")[0]
        for imported in ([parent] if parent else []) + list(imports(TREES[name], at_import=True)):
            if imported.partition(".")[0] not in ARROWS:
                outside.add(imported.partition(".")[0])
            else:
                waiting.append(imported if imported in TREES else imported.rpartition(".")[0])
    return outside


def test_the_sources_are_found() -> None:
    assert {
        "cli",
        "mimo",
        "mimo.networks.mimo_unet",
        "export.to_onnx",
        "engines.runtimes.base",
        "benchmarks.bench",
    } <= SOURCES.keys()
    assert "torch" in loaded_by("mimo.networks.checkpoint")
    assert "torch" in loaded_by("export.to_onnx")
    assert "safetensors" in packages(imports(TREES["mimo.networks.checkpoint"]))


@pytest.mark.parametrize("module", SOURCES)
def test_imports_point_down(module: str) -> None:
    mine = packages(imports(TREES[module])) & ARROWS.keys()
    room = module.partition(".")[0]
    if module == ENTRY:
        assert mine == {"cli"}
    elif module in COMMANDS:
        assert mine <= ARROWS.keys() - {"cli"}
        assert packages(imports(TREES[module], at_import=True)) & ARROWS.keys() <= ARROWS[room], "inside functions only"
    elif module == THE_TABLE:
        assert mine <= ARROWS[room] | {"export"}
        assert packages(imports(TREES[module], at_import=True)) & ARROWS.keys() <= ARROWS[room], "inside functions only"
    else:
        assert mine <= ARROWS[room]


@pytest.mark.parametrize("module", sorted(SOURCES.keys() - {"cli"}))
def test_only_the_command_line_imports_commands(module: str) -> None:
    assert not {name for name in imports(TREES[module]) if name in COMMANDS or name.rpartition(".")[0] in COMMANDS}


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_no_module_is_long(module: str) -> None:
    lines = len(SOURCES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= (100 if module == "cli" else 400)


@pytest.mark.parametrize("module", SOURCES)
def test_tests_are_imported_by_tests_only(module: str) -> None:
    assert not packages(imports(TREES[module])) & {"tests", "pytest", "hypothesis"}


@pytest.mark.parametrize("name", NO_TORCH)
def test_deployment_needs_no_torch(name: str) -> None:
    assert "torch" not in packages(imports(TREES[f"mimo.{name}"])), "not even inside a function"
    assert "torch" not in loaded_by(f"mimo.{name}")


def test_the_registry_needs_no_torch_until_a_network_is_built() -> None:
    assert "torch" not in loaded_by("mimo.networks.registry")


@pytest.mark.parametrize("name", ["to_fp16", "onnx_file"])
def test_fp16_needs_no_torch(name: str) -> None:
    assert "torch" not in loaded_by(f"export.{name}")


@pytest.mark.parametrize("module", SOURCES)
def test_nothing_prints_but_through_the_terminal(module: str) -> None:
    calls = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert not [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]


def test_the_command_line_imports_nothing_heavy_by_the_source() -> None:
    # Typer loads pydantic itself where it is installed; our own modules wait until a command needs it.
    assert not loaded_by("cli") & (HEAVY | {"pydantic"})


@pytest.mark.parametrize("arguments", [["--help"], ["export", "--help"], ["verify", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "import cli\n"
        "sys.argv = ['mimo', *sys.argv[1:]]\n"
        "try:\n"
        "    cli.main()\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0, stop.code\n"
        "print('loaded:', *sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    help_text, _, loaded = outcome.stdout.partition("loaded:")
    assert "Usage: mimo" in help_text
    assert {"typer", "mimo", "cli"} <= set(loaded.split())
    assert not set(loaded.split()) & HEAVY
