"""The file in a run's directory that says what a cluster consists of, written before it does: what is to be undone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from splitvote.harness.errors import NemesisError

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class DescriptionFile(Generic[T]):
    """A file of this name that holds a description of this kind; ``otherwise`` is what is left to do by hand."""

    name: str
    kind: type[T]
    otherwise: str

    def write(self, directory: Path, description: T) -> None:
        """Replace the directory's description in one step; raises OSError."""
        file = directory / self.name
        fresh = file.with_suffix(".fresh")
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(description)))
        fresh.replace(file)

    def read(self, directory: Path) -> T | None:
        """The directory's description; None where there is none, NemesisError when it cannot be understood."""
        file = directory / self.name
        try:
            return msgspec.json.decode(file.read_bytes(), type=self.kind)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as problem:
            raise NemesisError(f"cannot read {file}: {problem}; {self.otherwise}") from None
