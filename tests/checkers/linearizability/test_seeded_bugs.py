"""The fuzz finds bugs: each engine, with one of many small bugs put into a copy of it, is caught by the same fuzz."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from splitvote.checkers.linearizability import columns, compiled, guided, revisions, search, zones
from tests.checkers.linearizability import bugs
from tests.checkers.linearizability.bugs import Bug
from tests.checkers.linearizability.fuzz import (
    SYSTEMS,
    Engine,
    arrays_with,
    columns_with,
    find_disagreement,
    revisions_with,
    search_with,
    zones_with,
)

CHUNK, CHUNKS = 500, 12
"""Histories of one system in which a bug must show; most show in the first few."""

SOURCE = Path(search.__file__).parent


def copy_with(module: types.ModuleType, bug: Bug) -> Any:
    """Return a module made of a module's source with the bug in it."""
    source = Path(str(module.__file__)).read_text()
    assert source.count(bug.old) >= 1, f"the source has changed, and the bug {bug.name!r} has no place in it any more"
    name = f"{module.__name__}_with_a_bug"
    copy = types.ModuleType(name)
    sys.modules[name] = copy  # dataclasses look their module up
    exec(compile(source.replace(bug.old, bug.new), name, "exec"), copy.__dict__)
    return copy


def assert_found(engine: Engine, bug: Bug) -> None:
    """Whether the fuzz of one of the bug's systems shows it: a wrong verdict, a linearization that is none, a crash."""
    systems = [system for system in SYSTEMS if system.name in bug.systems]
    for seed in range(CHUNKS):
        for system in systems:
            try:
                if find_disagreement(system, engine, CHUNK, seed) is not None:
                    return
            except (AssertionError, IndexError, KeyError, TypeError, ValueError):
                return
    pytest.fail(f"the fuzz does not find: {bug.name}")


def of(found: list[Bug]) -> Any:
    assert len(found) >= 10
    return pytest.mark.parametrize("bug", found, ids=lambda bug: bug.name)


@of(bugs.SEARCH)
def test_bugs_in_the_python_search_are_found(bug: Bug) -> None:
    assert_found(partial(search_with, copy_with(search, bug).search), bug)


@of(bugs.ZONES)
def test_bugs_in_zones_are_found(bug: Bug) -> None:
    """Alone, or where the search builds on them."""
    buggy = copy_with(zones, bug)
    assert_found(partial(zones_with, buggy.decide_by_zones), bug)


@of(bugs.GUIDED)
def test_bugs_in_the_guided_search_are_found(bug: Bug) -> None:
    assert_found(partial(columns_with, copy_with(guided, bug).decide_columns), bug)


@of(bugs.ARRAYS)
def test_bugs_in_the_columns_are_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    buggy = copy_with(columns, bug)
    monkeypatch.setattr(guided, "to_problem", buggy.to_problem)
    assert_found(partial(arrays_with, buggy.from_register), bug)


@of(bugs.REVISIONS)
def test_bugs_in_the_order_by_revisions_are_found(bug: Bug) -> None:
    assert_found(partial(revisions_with, copy_with(revisions, bug).order_by_places), bug)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Bug], Any]:
    """Compile the C search with a bug in it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not compiled.engine_available():
        pytest.skip("no C compiler: the C search is not built here")

    def built(bug: Bug) -> Any:
        source = (SOURCE / "_search.c").read_text()
        assert source.count(bug.old) == 1, f"the source has changed, and the bug {bug.name!r} has no place in it"
        folder = tmp_path_factory.mktemp("bug")
        (folder / "_search.c").write_text(source.replace(bug.old, bug.new))
        library = folder / "_search.so"
        include = sysconfig.get_paths()["include"]
        command = [compiler, "-O1", "-shared", "-fPIC", f"-I{include}", str(folder / "_search.c"), "-o", str(library)]
        subprocess.run(command, check=True, capture_output=True, timeout=600)
        loader = importlib.machinery.ExtensionFileLoader("_search", str(library))
        spec = importlib.util.spec_from_loader("_search", loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        return module.search

    return built


@of(bugs.C_SEARCH)
def test_bugs_in_the_c_search_are_found(bug: Bug, build: Callable[[Bug], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_search_in_c", build(bug))
    assert_found(partial(search_with, compiled.search_compiled), bug)
