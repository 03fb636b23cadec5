"""``attached.json`` in a run's directory: which cluster of somebody else's was attached to, so that it can be left."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from splitvote.harness.clusters.attached.survey import Access
from splitvote.harness.clusters.descriptions import DescriptionFile
from splitvote.harness.clusters.processes import ProcessRecord

FILE_NAME: Final = "attached.json"


class AttachedDescription(msgspec.Struct, frozen=True):
    """The harness, whom it attached to (as the ground describes itself), our prefix there, and how one gets in.

    ``prefix`` is None while it is not known whether anything below it is ours;
    ``is_open`` until all is as it was found.
    """

    harness: ProcessRecord
    ground: dict[str, Any]
    token: str
    prefix: str | None
    access: Access
    is_open: bool
    schema: int = 1

    def closed(self) -> AttachedDescription:
        """The same, with nothing left to be undone."""
        return msgspec.structs.replace(self, is_open=False)


ATTACHED: Final = DescriptionFile(FILE_NAME, AttachedDescription, "look for containers labelled splitvote.run")
