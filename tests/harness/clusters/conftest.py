"""What the cluster tests share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_data_is_left(tmp_path: Path) -> Iterator[None]:
    """A member takes 128 MB from the start, and pytest would keep the directories of its last three runs."""
    yield
    shutil.rmtree(tmp_path, ignore_errors=True)
