"""What would make a simulated run depend on anything but its seed is banned from all code that a simulation runs.

DESIGN.md, "Determinism": no TaskGroup (it cancels in address order), no
asyncio.wait (it answers sets), no executors, no clocks, uuids or randomness of
the operating system's, no iteration over sets.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from splitvote.harness.clock import __file__ as clock_file

REPOSITORY = Path(clock_file).resolve().parent.parent

REACHABLE = (
    *("harness/simulation", "harness/generator", "harness/etcd/bindings", "workloads", "nemesis"),
    *("harness/clock.py", "harness/runner.py", "harness/run.py", "harness/sampler.py", "harness/lag.py"),
    *(
        "harness/client.py",
        "harness/cluster.py",
        "harness/machine.py",
        "harness/op.py",
        "harness/history.py",
        "harness/archive.py",
    ),
    *("harness/etcd/rpc.py", "harness/etcd/outcomes.py", "harness/etcd/capabilities.py"),
    *("harness/etcd/readings.py", "harness/etcd/archivist.py", "harness/etcd/text.py", "harness/etcd/methods.py"),
)
"""Everything between a workload and the simulated disk; control of real clusters and checkers are not."""

BANNED_MODULES = ("random", "uuid", "secrets", "threading", "concurrent", "multiprocessing", "subprocess", "socket")

BANNED_NAMES = (
    *("asyncio.TaskGroup", "asyncio.wait", "asyncio.as_completed", "asyncio.to_thread", "asyncio.run"),
    *("time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.process_time"),
    *("os.urandom", "os.getpid", "datetime.now", "datetime.utcnow", "date.today", "id", "hash"),
)

ALLOWED = {
    ("harness/run.py", "time.monotonic"): "how long the run took by the wall, for results.json",
    ("harness/run.py", "time.time_ns"): "the default of an option that a simulated run sets",
    ("harness/etcd/archivist.py", "hash"): "digests are compared within one process, never written",
}


def sources() -> list[Path]:
    found: list[Path] = []
    for place in REACHABLE:
        path = REPOSITORY / place
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return None if inner is None else f"{inner}.{node.attr}"
    return None


def is_set(node: ast.expr) -> bool:
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitOr, ast.BitAnd, ast.Sub)):
        return is_set(node.left) or is_set(node.right)
    return isinstance(node, ast.Call) and dotted(node.func) in ("set", "frozenset")


ORDERLESS = ("all", "any", "frozenset", "len", "max", "min", "set", "sorted", "sum")
"""What does not tell in which order it was given things."""


def orderless(tree: ast.AST) -> list[ast.comprehension]:
    """Comprehensions whose order does not show, for who they are given to."""
    return [
        comprehension
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and dotted(node.func) in ORDERLESS
        for argument in node.args
        if isinstance(argument, (ast.GeneratorExp, ast.ListComp, ast.SetComp))
        for comprehension in argument.generators
    ]


def iterated(node: ast.AST) -> list[ast.expr]:
    """What a node goes through in order."""
    if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
        return [node.iter]
    if isinstance(node, ast.Call) and dotted(node.func) in ("list", "tuple", "enumerate", "iter", "next", "zip", "map"):
        return node.args
    return []


def set_names(tree: ast.AST) -> list[str]:
    """Names that hold sets, by what is assigned to them or by their annotation."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and is_set(node.value):
            names += [name for target in node.targets if (name := dotted(target))]
        if isinstance(node, (ast.AnnAssign, ast.arg)) and node.annotation is not None:
            kind = node.annotation.value if isinstance(node.annotation, ast.Subscript) else node.annotation
            target = node.arg if isinstance(node, ast.arg) else dotted(node.target)
            if dotted(kind) in ("set", "frozenset") and target:
                names.append(target)
    return names


def offences(source: str) -> list[tuple[int, str]]:
    """(line, what) of everything banned in a module."""
    tree = ast.parse(source)
    sets = set_names(tree)
    harmless = orderless(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, name.name) for name in node.names if name.name.split(".")[0] in BANNED_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.split(".")[0] in BANNED_MODULES:
                found.append((node.lineno, node.module))
            found += [
                (node.lineno, f"{node.module}.{name.name}")
                for name in node.names
                if f"{node.module}.{name.name}" in BANNED_NAMES
            ]
        elif isinstance(node, ast.Attribute) and dotted(node) in BANNED_NAMES:
            found.append((node.lineno, str(dotted(node))))
        elif isinstance(node, ast.Call) and dotted(node.func) in ("id", "hash"):
            found.append((node.lineno, str(dotted(node.func))))
        for through in [] if node in harmless else iterated(node):
            if is_set(through) or dotted(through) in sets:
                found.append((through.lineno, f"iteration over a set: {ast.unparse(through)}"))
    return sorted(found)


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_nothing_that_a_simulation_runs_depends_on_more_than_its_seed(path: Path) -> None:
    left = [
        f"{name_of(path)}:{line}: {what}"
        for line, what in offences(path.read_text())
        if (name_of(path), what) not in ALLOWED
    ]
    assert not left


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import random", "random"),
        ("from concurrent.futures import Executor", "concurrent.futures"),
        ("async def f():\n async with asyncio.TaskGroup(): pass", "asyncio.TaskGroup"),
        ("from asyncio import wait", "asyncio.wait"),
        ("now = time.monotonic()", "time.monotonic"),
        ("x = id(y)", "id"),
        ("for a in {1, 2}: pass", "iteration over a set: {1, 2}"),
        ("b = set(x)\nc = [d for d in b]", "iteration over a set: b"),
        ("def f(names: frozenset[str]): return list(names)", "iteration over a set: names"),
    ],
)
def test_the_lint_sees_what_is_banned(source: str, what: str) -> None:
    assert what in [found for _, found in offences(source)]


@pytest.mark.parametrize(
    "source",
    [
        "for a in sorted({1, 2}): pass",
        "if a in {1, 2}: pass",
        "x = len(set(y))",
        "x = all(a > 1 for a in {1, 2})",
    ],
)
def test_sets_may_be_asked_and_sorted(source: str) -> None:
    assert offences(source) == []
