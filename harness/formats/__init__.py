"""Histories from and for others: import of Jepsen's and Porcupine's formats, export of EDN, JSON lines and Parquet.

Only formats live here; what a history means is the checkers' business.
"""

from splitvote.harness.formats.export import write_edn, write_jsonl, write_parquet
from splitvote.harness.formats.intervals import Interval, history_of_intervals
from splitvote.harness.formats.reading import FORMATS, FormatName, detect_format, read_any

__all__ = [
    "FORMATS",
    "FormatName",
    "Interval",
    "detect_format",
    "history_of_intervals",
    "read_any",
    "write_edn",
    "write_jsonl",
    "write_parquet",
]
