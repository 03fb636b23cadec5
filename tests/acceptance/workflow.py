"""What a GitHub workflow runs: the ``run`` steps of its first job, with what they are given.

    python tests/acceptance/workflow.py WORKFLOW

prints a line a step: `always` or `success`, its name, and its command in one
line, with tabs between them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml


@dataclass(frozen=True)
class Step:
    """One command; ``when`` is whether it runs though a step before it has failed."""

    name: str
    command: str
    when: Literal["always", "success"]


def read_workflow(path: Path) -> dict[str, Any]:
    """The workflow, its triggers under "on": YAML 1.1 takes that word for true."""
    workflow = yaml.safe_load(path.read_text())
    return {("on" if name is True else name): value for name, value in workflow.items()}


def run_steps(workflow: dict[str, Any]) -> list[Step]:
    """The commands of the first job; raises ValueError for a condition that is not known here."""
    job = next(iter(workflow["jobs"].values()))
    return [_step(step) for step in job["steps"] if "run" in step]


def _step(step: dict[str, Any]) -> Step:
    condition = step.get("if", "success()")
    if condition not in ("always()", "success()"):
        raise ValueError(f"{step['run']}: if: {condition} is neither always() nor success()")
    return Step(step.get("name", ""), " ".join(step["run"].split()), "always" if "always" in condition else "success")


if __name__ == "__main__":
    for each in run_steps(read_workflow(Path(sys.argv[1]))):
        print(each.when, each.name, each.command, sep="\t")
