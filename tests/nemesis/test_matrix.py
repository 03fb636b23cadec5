"""The matrix of docs/faults.md is current, and claims only what was run."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "matrix.py"


@pytest.fixture(scope="module")
def matrix() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_the_table_in_the_document_is_current(matrix: dict[str, Any]) -> None:
    """Run python docs/matrix.py after a change of families or of what clusters can do."""
    assert matrix["written"]() == matrix["table"]()


def test_a_cell_without_a_run_behind_it_claims_nothing(matrix: dict[str, Any], tmp_path: Path) -> None:
    clusters = matrix["clusters"](tmp_path)
    lines = list(matrix["Table"](clusters, {"local": ["kill:kill"]}).lines())
    rows = {line.split("`")[1]: line for line in lines if line.startswith("| `")}
    assert next(iter(clusters)) == "local"
    assert rows["kill"] == "| `kill` | works |" + " not run |" * (len(clusters) - 1)
    assert "works" not in "".join(line for family, line in rows.items() if family != "kill")


def test_a_claim_for_what_a_cluster_lacks_is_an_error(matrix: dict[str, Any], tmp_path: Path) -> None:
    clusters = matrix["clusters"](tmp_path)
    with pytest.raises(Exception, match="which lacks it"):
        list(matrix["Table"](clusters, {"sim": ["version:rolling"]}).lines())
