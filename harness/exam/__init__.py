"""The exam: what the harness finds of bugs that were planted for it, and whether it ever cries wolf.

Every mutant of the simulation is run under the workloads and faults that are
meant to find it, and the unmutated simulation under all of them.  Which
questions there are is in ``questions``, one sitting with its resumable record in
``sitting``, what came of it in ``marks``, how it is shown in ``table``.  Nothing
here knows how a mutant works or a checker decides.
"""

from splitvote.harness.exam.marks import Marks, marks_of
from splitvote.harness.exam.questions import CONTROL, EXPECTATIONS, Expectation, Question
from splitvote.harness.exam.sitting import Sitting
from splitvote.harness.exam.table import as_json, as_markdown, as_text, write_into

__all__ = [
    "CONTROL",
    "EXPECTATIONS",
    "Expectation",
    "Marks",
    "Question",
    "Sitting",
    "as_json",
    "as_markdown",
    "as_text",
    "marks_of",
    "write_into",
]
