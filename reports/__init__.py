"""What people read: pages and files made from a stored run alone.

Reports know a run's directory and nothing else: no cluster, no workload, no
checker.  Template rendering and numbers are loaded when a report is made.
"""

from splitvote.reports.junit import write_junit
from splitvote.reports.markdown import append_markdown, append_summary, markdown_summary
from splitvote.reports.page import write_report
from splitvote.reports.summary import text_summary
from splitvote.reports.verdicts import verdict_markdown, verdict_text

__all__ = [
    "append_markdown",
    "append_summary",
    "markdown_summary",
    "text_summary",
    "verdict_markdown",
    "verdict_text",
    "write_junit",
    "write_report",
]
