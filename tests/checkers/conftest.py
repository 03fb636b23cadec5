"""Makes ``tests.checkers`` importable, so that the tests and the fuzz share histories and oracles."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:
    sys.path.append(ROOT)
