"""One call of the endpoint that a binary built with gofail serves; Python's own library only (``node_agent``).

GET / lists ``name=terms`` lines (no terms where it is off), PUT /name with the
terms as body switches one on, DELETE /name off.
https://github.com/etcd-io/gofail
"""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Final

CALL_TIMEOUT_S: Final = 3.0
VARIABLE: Final = "GOFAIL_HTTP"
"""Tells a binary where to serve; the name is in every binary that can, and in no other."""


def call(address: str, verb: str, point: str, body: str) -> tuple[int, str]:
    """The status and text of the answer; raises OSError when there is none."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(f"http://{address}/{point}", data=body.encode() or None, method=verb)
    try:
        with opener.open(request, timeout=CALL_TIMEOUT_S) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode(errors="replace")
