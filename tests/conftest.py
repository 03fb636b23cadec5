"""What every test may ask for: stock etcd, Chromium, published histories; skipped, saying why, where missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# An example may take as long as it needs on a slow machine, and all machines try the same ones; `make fuzz` has others.
settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

REPOSITORY = Path(__file__).resolve().parent.parent
ETCD_VERSIONS = Path(os.environ.get("SPLITVOTE_ETCD_VERSIONS") or REPOSITORY / ".etcd-versions")
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def etcd_binary() -> Callable[[str], Path]:
    """The stock etcd binary of a version (3.4.23, 3.5.1, 3.5.16 or 3.5.30)."""

    def find(version: str) -> Path:
        binary = ETCD_VERSIONS / version / "etcd"
        if not binary.is_file():
            pytest.skip(f"no etcd {version} at {binary}: `tests/etcd-versions {ETCD_VERSIONS}` fetches it")
        return binary

    return find


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no chromium on PATH: install Debian's package chromium to run the browser tests")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Published histories, kept beside the repository and not in it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no published histories at {SHARED_DATA}")
    return SHARED_DATA
