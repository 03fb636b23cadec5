"""What people read: pages and files made from a stored run alone.

Reports know a run's directory and nothing else: no cluster, no workload, no
checker.  Template rendering and numbers are loaded when a report is made.
"""

from splitvote.reports.page import write_report
from splitvote.reports.summary import markdown_summary, text_summary

__all__ = ["markdown_summary", "text_summary", "write_report"]
