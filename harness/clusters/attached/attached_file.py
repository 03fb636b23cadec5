"""``attached.json`` in a run's directory: which cluster of somebody else's was attached to, so that it can be left."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from splitvote.harness.clusters.attached.survey import Access
from splitvote.harness.clusters.processes import ProcessRecord
from splitvote.harness.errors import NemesisError

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


def write_attached(directory: Path, description: AttachedDescription) -> None:
    """Replace the directory's description in one step; raises OSError."""
    file = directory / FILE_NAME
    fresh = file.with_suffix(".fresh")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(description)))
    fresh.replace(file)


def read_attached(directory: Path) -> AttachedDescription | None:
    """The directory's description; None where there is none, NemesisError when it cannot be understood."""
    file = directory / FILE_NAME
    try:
        return msgspec.json.decode(file.read_bytes(), type=AttachedDescription)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as problem:
        raise NemesisError(f"cannot read {file}: {problem}; look for containers labelled splitvote.run") from None
