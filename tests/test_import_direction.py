"""Imports point one way, and nothing imports the rooms by their bare names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ROOMS = ("harness", "workloads", "nemesis", "checkers", "reports")

RECORDS = frozenset(
    f"harness.{name}"
    for name in (
        "op",
        "history",
        "jsonl",
        "result",
        "recording",
        "archive",
        "errors",
        "spans",
        "availability",
    )
)
ALLOWED = {
    "checkers": {"checkers"} | RECORDS,
    "nemesis": {"nemesis", "harness.cluster", "harness.machine", "harness.generator"} | RECORDS,
    "workloads": {"workloads", "checkers", "harness.client", "harness.generator"} | RECORDS,
    "reports": {"reports", "harness.store"} | RECORDS,
    "harness.generator": {"harness.generator", "harness.op", "harness.errors"},
    "harness.formats": {"harness.formats"} | RECORDS,
    **{record: set(RECORDS) for record in RECORDS},
}
"""Who may import what of ours; a folder stands for all below it. Whoever is not listed sees everything."""


def modules() -> list[Path]:
    return [path for room in ROOMS for path in sorted((REPOSITORY / room).rglob("*.py")) if "stubs" not in path.parts]


def name_of(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Everything a module imports when it is loaded or later; `from a import b` counts as a.b too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write splitvote.{path.parent.name}"
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def is_below(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder}.")


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    rules = [room for room in ALLOWED if is_below(name_of(path), room)]
    if not rules:
        return
    allowed = ALLOWED[max(rules, key=len)]
    ours = {name.removeprefix("splitvote.") for name in imports(path) if is_below(name, "splitvote")}
    stray = {name for name in ours if not any(is_below(name, folder) for folder in allowed)}
    assert not stray, f"{name_of(path)} may import only {sorted(allowed)}, not {sorted(stray)}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_no_bare_imports_of_the_rooms(path: Path) -> None:
    bare = {name for name in imports(path) if name.split(".")[0] in ROOMS}
    assert not bare, f"import splitvote.{min(bare)}, not {min(bare)}"


def test_the_package_is_symlinks_and_nothing_else() -> None:
    package = REPOSITORY / "splitvote"
    links = {path.name for path in package.iterdir() if path.is_symlink()}
    files = {path.name for path in package.iterdir() if not path.is_symlink()} - {"__pycache__"}
    assert links == set(ROOMS)
    assert files == {"__init__.py", "py.typed"}
