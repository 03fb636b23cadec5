"""The workflows: every command is make's or splitvote's, exists, and is run by the acceptance script as well."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from splitvote.harness.cli import cli
from splitvote.harness.nightly.plan import WORKLOADS
from tests.acceptance.workflow import Step, read_workflow, run_steps

REPOSITORY = Path(__file__).resolve().parent.parent.parent
NIGHTLY = REPOSITORY / ".github/workflows/nightly.yml"
ACCEPTANCE = REPOSITORY / "tests/acceptance/nightly.sh"
PROGRAM = ".venv/bin/splitvote"


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    return read_workflow(NIGHTLY)


@pytest.fixture(scope="module")
def steps(workflow: dict[str, Any]) -> list[Step]:
    return run_steps(workflow)


def job(workflow: dict[str, Any]) -> dict[str, Any]:
    (only,) = workflow["jobs"].values()
    assert isinstance(only, dict)
    return only


def test_every_command_is_a_plain_call_of_make_or_splitvote(steps: list[Step]) -> None:
    """No shell beside words and variables, so that a person can type what the job runs."""
    assert len(steps) >= 5
    for step in steps:
        words = shlex.split(step.command)
        assert words[0] in ("make", PROGRAM), step
        assert not re.search(r"[;&|<>`]|\$\(|\$\{\{", step.command), step


def test_every_command_exists_with_its_options(steps: list[Step]) -> None:
    """Targets are the Makefile's, commands and their options are splitvote's."""
    makefile = (REPOSITORY / "Makefile").read_text()
    for step in steps:
        program, *words = shlex.split(step.command)
        if program == "make":
            assert all(re.search(rf"^{re.escape(word)}:", makefile, re.MULTILINE) for word in words), step
            continue
        command = cli.commands[words[0]]
        known = {name for option in command.params for name in option.opts}
        assert {word for word in words if word.startswith("--")} <= known, step


def test_the_acceptance_script_runs_what_the_workflow_does(steps: list[Step]) -> None:
    """It takes the steps from the workflow; it leaves out up and down alone, and those only beside docker."""
    script = ACCEPTANCE.read_text()
    assert f"workflow={NIGHTLY.relative_to(REPOSITORY)}" in script
    assert 'tests/acceptance/workflow.py "$workflow"' in script
    skipped = re.findall(r'\*"(splitvote \w+)"\*', script)
    assert sorted(skipped) == ["splitvote down", "splitvote up"]
    by_command = [shlex.split(step.command)[1] for step in steps if step.command.startswith(PROGRAM)]
    assert by_command == ["up", "nightly", "summary", "index", "down"]


def test_what_a_command_is_given_is_set(workflow: dict[str, Any], steps: list[Step]) -> None:
    """Every variable of a command is in the job's environment, or GitHub's own."""
    used = {name for step in steps for name in re.findall(r"\$(\w+)", step.command)}
    assert used <= set(job(workflow)["env"]) | {"GITHUB_STEP_SUMMARY"}


def test_inputs_reach_commands_by_the_environment_alone(workflow: dict[str, Any]) -> None:
    """What somebody types into a form is data, and no part of a script."""
    inputs = workflow["on"]["workflow_dispatch"]["inputs"]
    assert {"seed", "duration"} <= set(inputs)
    environment = job(workflow)["env"]
    for name in inputs:
        assert any(f"inputs.{name}" in str(value) for value in environment.values()), name
    assert all("inputs." not in str(step) for step in job(workflow)["steps"])


def test_it_runs_by_night_and_by_hand(workflow: dict[str, Any]) -> None:
    """A schedule with a time, and the form."""
    (schedule,) = workflow["on"]["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* \*", schedule["cron"])


def test_a_second_job_avoids_nothing_and_may_fail(workflow: dict[str, Any]) -> None:
    """The first avoids what is open in etcd and must be green."""
    first, second = job(workflow)["strategy"]["matrix"]["include"]
    assert (first["avoid"], first["may_fail"]) == ("open", False)
    assert (second["avoid"], second["may_fail"]) == ("", True)
    assert job(workflow)["continue-on-error"] == "${{ matrix.may_fail }}"
    assert job(workflow)["strategy"]["fail-fast"] is False
    assert job(workflow)["env"]["AVOID"] == "${{ matrix.avoid }}"


def test_store_and_summary_are_kept_whatever_happens(workflow: dict[str, Any], steps: list[Step]) -> None:
    """Verdicts, index, upload and the end of the nodes do not depend on the night's exit code, and do not hide it."""
    uploads = [step for step in job(workflow)["steps"] if "upload-artifact" in step.get("uses", "")]
    assert [(step["if"], step["with"]["path"]) for step in uploads] == [("always()", job(workflow)["env"]["STORE"])]
    when = {shlex.split(step.command)[1]: step.when for step in steps}
    assert [when[name] for name in ("summary", "index", "down")] == ["always"] * 3
    assert when["nightly"] == "success"
    assert all("continue-on-error" not in step for step in job(workflow)["steps"])


def test_the_nights_workloads_are_those_that_are_told(workflow: dict[str, Any]) -> None:
    """The form names what runs when nothing is asked for."""
    told = workflow["on"]["workflow_dispatch"]["inputs"]["workloads"]["description"]
    assert all(workload in told for workload in WORKLOADS)


def test_ci_runs_the_script_that_everybody_runs() -> None:
    """Pull requests are judged by .ci/run."""
    workflow = read_workflow(REPOSITORY / ".github/workflows/ci.yml")
    assert "pull_request" in workflow["on"]
    assert [step.command for step in run_steps(workflow)] == [".ci/run"]
    assert (REPOSITORY / ".ci/run").stat().st_mode & 0o111
