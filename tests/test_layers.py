"""Imports point down, and the doctor imports nothing that may be broken; read from the source with `ast`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "onnxsd"

# From the bottom up. A package may import from lower layers and from itself; packages of one layer never from
# each other. `artifact` stands above `models`: a manifest speaks of components and of their recipes.
LAYERS = (
    ("errors",),
    ("records", "tensors"),
    ("weights", "matrix", "machine", "builtin"),
    ("ops",),
    ("models",),
    ("artifact", "session", "prompt", "samplers", "imaging"),
    ("kernels",),
    ("verify",),
    ("doctor", "export", "engine"),
    ("bench",),
    ("cli",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
HEAVY = {"numpy", "onnx", "onnxruntime", "torch", "onnx_ir", "safetensors", "tokenizers", "PIL"}
# These work where the heavy packages are broken; a file that ends so runs in a child process, as text.
ALWAYS_IMPORTABLE = ("errors", "records", "machine", "matrix", "doctor")
CHILD = "_child.py"
BASE_INSTALL = {"click", "packaging", "yaml", "pynvml", "rich"}


def modules() -> list[Path]:
    """Every file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def layer_of(path: Path) -> str | None:
    """The package or file below `onnxsd` that a module belongs to; None for the root's own two files."""
    inside = path.relative_to(PACKAGE)
    name = inside.parts[0].removesuffix(".py")
    return None if name in ("__init__", "__main__") else name


def imported_by(path: Path) -> Iterator[tuple[int, str]]:
    """Each imported module with its line, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            base = node.module or ""
            yield node.lineno, base
            if base == "onnxsd":  # `from onnxsd import matrix` imports onnxsd.matrix
                yield from ((node.lineno, f"onnxsd.{alias.name}") for alias in node.names)


def faults_of(path: Path) -> Iterator[str]:
    """Each import of a file that points up or aside."""
    here = layer_of(path)
    if here is None:
        return
    if here not in RANK:
        yield f"{path}: {here} is in no layer of this test"
        return
    for line, name in imported_by(path):
        parts = name.split(".")
        if parts[0] != "onnxsd" or len(parts) == 1:
            continue
        there = parts[1]
        if there == here or there.startswith("_"):
            continue
        if there not in RANK:
            yield f"{path}:{line}: {name} is in no layer of this test"
        elif RANK[there] >= RANK[here]:
            yield f"{path}:{line}: {here} imports {there}, which is no layer below it"


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_down(path: Path) -> None:
    assert list(faults_of(path)) == []


@pytest.mark.parametrize("name", ALWAYS_IMPORTABLE)
def test_what_must_always_work_imports_nothing_heavy(name: str) -> None:
    files = [path for path in modules() if layer_of(path) == name and not path.name.endswith(CHILD)]

    assert files
    for path in files:
        roots = {imported.split(".")[0] for _, imported in imported_by(path)}
        assert roots - {"onnxsd", "__future__"} <= BASE_INSTALL | set(sys.stdlib_module_names), path
        assert not roots & HEAVY, path


def test_the_command_line_imports_heavy_packages_in_functions_only() -> None:
    for path in modules():
        if layer_of(path) != "cli":
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names]
                roots = {(node.module or "") if isinstance(node, ast.ImportFrom) else name for name in names}
                assert not {root.split(".")[0] for root in roots} & HEAVY, f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    ("inside", "text", "fault"),
    [
        ("ops/a.py", "from onnxsd.models import config", "ops imports models"),
        ("doctor/a.py", "def f():\n    from onnxsd.engine import spec", "doctor imports engine"),
        ("matrix/a.py", "from onnxsd import machine", "matrix imports machine"),
        ("gadgets/a.py", "import json", "gadgets is in no layer"),
        ("cli/a.py", "import onnxsd.gadgets", "onnxsd.gadgets is in no layer"),
    ],
)
def test_a_wrong_import_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str, text: str, fault: str
) -> None:
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    path = tmp_path / inside
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")

    found = list(faults_of(path))

    assert len(found) == 1
    assert fault in found[0]


READS = {"open", "read_text", "read_bytes", "getenv", "environ", "load", "exists", "is_file", "iterdir"}


def names_used_while_importing(path: Path) -> Iterator[tuple[int, str]]:
    """Names and attributes in a module's code that runs at import: all but the bodies of functions."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            waiting += [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
            continue
        if isinstance(node, ast.Lambda) or is_main_guard(node):
            continue
        if isinstance(node, (ast.Name, ast.Attribute)):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        waiting += ast.iter_child_nodes(node)


def is_main_guard(node: ast.AST) -> bool:
    """Whether a node is `if __name__ == "__main__":`."""
    return isinstance(node, ast.If) and "__name__" in ast.dump(node.test)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_importing_reads_no_file_and_no_variable(path: Path) -> None:
    found = [f"{path}:{line}: {name}" for line, name in names_used_while_importing(path) if name in READS]

    assert found == []


def test_a_read_at_import_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        "import os\nHOME = os.environ['HOME']\ndef f(): return os.getenv('X')\n", encoding="utf-8"
    )

    assert (2, "environ") in names_used_while_importing(path)
    assert "getenv" not in {name for _, name in names_used_while_importing(path)}
