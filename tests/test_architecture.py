"""The rules of the house. When one objects, move the code rather than the rule."""

from __future__ import annotations

import ast
import fnmatch
import functools
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# room -> the rooms it may import from
BELOW = {
    "graphs": {"graphs"},
    "devices": {"devices"},
    "hwsim": {"hwsim", "graphs", "devices"},
    "reports": {"reports", "hwsim", "graphs", "devices"},
    "cli": {"cli", "reports", "hwsim", "graphs", "devices"},
}
# library -> the only rooms that know it
KNOWN_TO = {
    "torch": {"graphs"},
    "torchvision": {"graphs"},
    "timm": {"graphs"},
    "transformers": {"graphs"},
    "onnx": {"graphs"},
    "sympy": {"graphs"},
    "networkx": {"graphs"},
    "scipy": {"graphs", "hwsim"},
    "dask": {"hwsim"},
    "distributed": {"hwsim"},
    "optuna": {"hwsim"},
    "matplotlib": {"reports"},
    "jinja2": {"reports"},
    "typer": {"cli"},
    "rich": {"cli", "reports"},
}
# these may import torch when they are loaded; the rest of graphs only inside the function that needs it
TORCH_AT_LOAD = (
    "graphs/tracing/*",
    "graphs/variants/*",
    "graphs/layers.py",
    "graphs/image_layers.py",
    "graphs/lookups.py",
    "graphs/sampled.py",
    "graphs/mixers/*",
    "graphs/sources/*/[!_]*.py",
)
NOT_AT_LOAD = ("torch", "matplotlib", "scipy", "networkx", "sympy")
SAY_NOTHING = {"util", "helper", "common", "base", "manager", "type", "misc"}  # singular; plurals are met too
LONGEST = 500
# file -> why it is longer than LONGEST lines
LONG_FOR_A_REASON: dict[str, str] = {
    "cli.py": "one command after another, each with its options and help; no logic to divide",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One imported name, `from a.b import c` being `a.b.c`."""

    file: str
    line: int
    name: str
    at_load: bool

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"


def room_files() -> list[Path]:
    inside = [path for room in BELOW for path in (ROOT / room).rglob("*.py")]
    door = ROOT / "cli.py"
    return sorted(inside) + [door] * door.is_file()


def written_by_us() -> list[Path]:
    elsewhere = [path for folder in ("tests", "tools", "examples") for path in (ROOT / folder).rglob("*.py")]
    return room_files() + sorted(elsewhere)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py")


def module_of(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@functools.cache
def imports() -> tuple[Import, ...]:
    return tuple(
        found for path in room_files() for found in imports_of(relative(path), path.read_text("utf-8"))
    )


def imports_of(file: str, source: str) -> list[Import]:
    return [
        Import(file=file, line=node.lineno, name=name, at_load=at_load)
        for node, at_load in import_statements(ast.parse(source), at_load=True)
        for name in names_of(node)
    ]


def import_statements(node: ast.AST, at_load: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, at_load
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from import_statements(child, at_load=False)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from import_statements(child, at_load and not inside)


def names_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names]


def listed(found: list[Import]) -> str:
    return "\n".join(map(str, found))


def test_imports_run_one_way() -> None:
    wrong = [
        found for found in imports() if found.top in BELOW and found.top not in BELOW[room_of(found.file)]
    ]
    assert not wrong, listed(wrong)


def test_each_library_is_known_to_its_own_rooms_only() -> None:
    wrong = [found for found in imports() if room_of(found.file) not in KNOWN_TO.get(found.top, BELOW)]
    assert not wrong, listed(wrong)


def test_torch_is_loaded_by_tracing_variants_and_layers_only() -> None:
    wrong = [
        found
        for found in imports()
        if found.top == "torch" and found.at_load
        if not any(fnmatch.fnmatch(found.file, pattern) for pattern in TORCH_AT_LOAD)
    ]
    assert not wrong, listed(wrong)


def test_private_names_of_torch_live_in_one_file() -> None:
    files = {relative(path) for path in room_files() if uses_private_torch(path.read_text("utf-8"))}
    assert len(files) <= 1, files


def uses_private_torch(source: str) -> bool:
    tree = ast.parse(source)
    imported = [name for node, _ in import_statements(tree, at_load=True) for name in names_of(node)]
    reached = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return any(is_private_torch(name) for name in imported + reached)


def is_private_torch(name: str) -> bool:
    first, *rest = name.split(".")
    return first == "torch" and any(part.startswith("_") and not part.startswith("__") for part in rest)


def test_imports_name_what_they_take() -> None:
    wrong = [found for found in imports() if found.name.endswith(".*") or found.name.startswith(".")]
    assert not wrong, listed(wrong)


def test_modules_load_without_a_cycle() -> None:
    modules = {module_of(relative(path)) for path in room_files()}
    needs: dict[str, set[str]] = {module: set() for module in modules}
    for found in imports():
        target = found.name if found.name in modules else found.name.rpartition(".")[0]
        if found.at_load and target in modules and target != module_of(found.file):
            needs[module_of(found.file)].add(target)
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize(
    "room", [room for room in BELOW if (ROOT / room).is_dir() or (ROOT / f"{room}.py").is_file()]
)
def test_a_room_loads_without_the_heavy_libraries(room: str) -> None:
    program = f"import sys, {room}; print(*[name for name in {NOT_AT_LOAD} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [], f"import {room} loads {result.stdout}"


def test_names_of_files_say_what_is_inside() -> None:
    files = map(relative, written_by_us())
    wrong = [
        file for file in files if any(says_nothing(part) for part in file.removesuffix(".py").split("/"))
    ]
    assert not wrong, wrong


def says_nothing(name: str) -> bool:
    return name.lower().strip("_").removesuffix("s") in SAY_NOTHING


def test_long_files_carry_a_reason() -> None:
    lengths = {relative(path): len(path.read_text("utf-8").splitlines()) for path in written_by_us()}
    long = {file for file, length in lengths.items() if length > LONGEST}
    assert long == set(LONG_FOR_A_REASON), {file: lengths.get(file) for file in long ^ set(LONG_FOR_A_REASON)}


def test_the_tests_are_flat_and_no_folder_of_theirs_shadows_a_room() -> None:
    nested = [relative(path) for path in (ROOT / "tests").rglob("test_*.py") if path.parent != ROOT / "tests"]
    assert not nested, nested
    shadows = [relative(path) for path in (ROOT / "tests").rglob("*") if path.is_dir() and path.name in BELOW]
    assert not shadows, shadows
