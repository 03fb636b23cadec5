"""The index of a store: all its runs, their trends, two of them side by side; as static pages or served.

It reads config.json and results.json of each run and no history, so that
thousands of runs stay quick.  A run's own page is ``splitvote.reports.page``'s.
"""

from splitvote.reports.index.page import write_index
from splitvote.reports.index.serving import serve
from splitvote.reports.index.zipping import write_zip

__all__ = ["serve", "write_index", "write_zip"]
