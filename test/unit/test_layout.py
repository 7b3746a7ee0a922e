"""Where things are: rooms of the package, tests that mirror them, and scripts that nothing depends on."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from paths import ROOT

PACKAGE = ROOT / "sqap_vla_ros"
SOURCES = ("sqap_vla_ros", "benchmarks", "launch", "environment", "examples", "docs", "test")
MOST_LINES = 300
_UNIT = ROOT / "test" / "unit"
TESTS_OF_THE_SCRIPTS = {_UNIT / "test_readme.py", *(_UNIT / "benchmarks").glob("*.py")}


def imported(file: Path) -> set[str]:
    """First words of the modules that a file imports."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names}


def test_the_root_of_the_package_holds_rooms_only() -> None:
    assert {file.name for file in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("folder", ["unit", "live"])
def test_tests_mirror_the_rooms(folder: str) -> None:
    tests = ROOT / "test" / folder
    rooms = {file.parent.relative_to(tests) for file in tests.rglob("test_*.py")}
    assert [str(room) for room in rooms if not (PACKAGE / room).is_dir() and not (ROOT / room).is_dir()] == []


def test_nothing_imports_the_benchmarks() -> None:
    files = [file for name in ("sqap_vla_ros", "test", "examples") for file in (ROOT / name).rglob("*.py")]
    assert files
    assert [str(file) for file in files if "benchmarks" in imported(file) and file not in TESTS_OF_THE_SCRIPTS] == []


@pytest.mark.parametrize("folder", SOURCES)
def test_each_file_is_short_enough_to_be_read_in_one_sitting(folder: str) -> None:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in (ROOT / folder).rglob("*.py")}
    assert lengths
    assert {str(file): lines for file, lines in lengths.items() if lines > MOST_LINES} == {}


@pytest.mark.parametrize(
    "room", sorted(file.parent for file in PACKAGE.rglob("__init__.py")), ids=lambda room: room.name
)
def test_each_room_says_what_it_is_for(room: Path) -> None:
    documentation = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
    assert documentation is not None and documentation.split("\n\n")[0].endswith(".")


def test_what_the_makefile_names_exists() -> None:
    named = re.findall(r"\btest/[\w/]+\.py\b", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_no_files_import_each_other_in_a_circle() -> None:
    modules = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in PACKAGE.rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for module, file in modules.items():
        nodes = [
            node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)
        ]
        named = {f"{node.module}.{alias.name}" for node in nodes for alias in node.names}
        graph[module] = ({node.module or "" for node in nodes} | named) & modules.keys()
    assert sum(map(len, graph.values())) > len(modules)
    TopologicalSorter(graph).prepare()  # raises CycleError with the circle
