"""Views of a workload's own on the timeline: who holds a lock, who leads, how long leases last, how far watchers are.

Each view turns what a run recorded, and what its checker left as evidence, into
bars in rows or lines over time (``shapes``), which the browser draws without
knowing the workload.  Records may come from anywhere: what has another shape
than the workload's own is left out, never an error.
"""

from splitvote.reports.views.shapes import Bar, BarsView, Line, LinesView, Mark, Row, View
from splitvote.reports.views.workloads import views_of

__all__ = ["Bar", "BarsView", "Line", "LinesView", "Mark", "Row", "View", "views_of"]
