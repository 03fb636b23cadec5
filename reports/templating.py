"""What all pages are made with: the templates' environment, and scripts that a page's policy names by their hashes."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Script:
    """A script element's text and the hash by which the page's policy lets it run."""

    text: str
    hash: str

    @classmethod
    def of(cls, names: tuple[str, ...]) -> Script:
        """These files of ``web/`` as one script with one scope."""
        text = f'"use strict";\n(() => {{\n{joined(names)}}})();\n'
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        return cls(text, f"sha256-{digest}")


def joined(names: tuple[str, ...]) -> str:
    """These files of ``web/``, one after another."""
    return "".join((_HERE / "web" / name).read_text(encoding="utf-8") for name in names)


def environment() -> Environment:
    """The templates, every value escaped, a name that is not given an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
