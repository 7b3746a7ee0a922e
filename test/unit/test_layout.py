"""Where things are: rooms of the package, tests that mirror them, and scripts that nothing depends on."""

import ast
from pathlib import Path

import pytest
from paths import ROOT

PACKAGE = ROOT / "sqap_vla_ros"
TESTS_OF_THE_SCRIPTS = {ROOT / "test" / "unit" / "test_readme.py"}


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
