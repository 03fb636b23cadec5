"""The fuzz finds bugs: a copy of the checkers with one of many small bugs in it is caught by the same fuzz."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitvote.checkers import isolation
from tests.checkers.isolation.bugs import BUGS, Bug
from tests.checkers.isolation.fuzz import fuzz

HISTORIES = 2500
"""Histories in which a bug must show."""

SOURCE = Path(isolation.__file__).parent


@pytest.fixture
def search_path(tmp_path: Path) -> Iterator[Path]:
    """A folder to import copies from; forgotten afterwards."""
    sys.path.insert(0, str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    sys.path.remove(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("isolation_with_bug_")]:
        del sys.modules[name]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_fuzz_finds_the_bug(bug: Bug, search_path: Path) -> None:
    """A disagreement with the brute force shows before the histories end."""
    name = f"isolation_with_bug_{BUGS.index(bug)}"
    package = search_path / name
    package.mkdir()
    for file in sorted(SOURCE.glob("*.py")):
        text = file.read_text()
        if file.stem == bug.module:
            assert text.count(bug.old) == 1, f"the piece to be replaced is not (once) in {file.name}"
            text = text.replace(bug.old, bug.new)
        (package / file.name).write_text(text.replace("splitvote.checkers.isolation", name))
    copy = importlib.import_module(name)
    _, problem = fuzz(HISTORIES, seed=7, package=copy)
    assert problem is not None, f"{HISTORIES} histories did not show that {bug.name}"


def test_a_copy_without_a_bug_is_not_caught(search_path: Path) -> None:
    """It is the bug that is found, not the copying."""
    name = "isolation_with_bug_none"
    package = search_path / name
    package.mkdir()
    for file in sorted(SOURCE.glob("*.py")):
        (package / file.name).write_text(file.read_text().replace("splitvote.checkers.isolation", name))
    _, problem = fuzz(300, seed=7, package=importlib.import_module(name))
    assert problem is None, problem
