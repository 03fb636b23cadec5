"""Commands on this very machine, as children of this process: the transport of a node that needs no other."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import BinaryIO, Final

from splitvote.harness.control.remote import Unreachable

_SIGNALLED: Final = 128


class LocalTransport:
    """See ``Transport``; a child that is late is killed."""

    @property
    def is_root(self) -> bool:
        """See ``Transport``."""
        return os.geteuid() == 0

    def execute(
        self, command: Sequence[str], *, stdin: BinaryIO, stdout: BinaryIO, timeout_s: float
    ) -> tuple[int, bytes]:
        """See ``Transport``; the output is in memory at first."""
        try:
            done = subprocess.run(
                command,
                input=stdin.read(),
                capture_output=True,
                timeout=timeout_s,
                check=False,
                start_new_session=True,  # Ctrl-C is for us: we heal first
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
        except OSError as failure:
            raise Unreachable(f"{command[0]} cannot be run here: {failure.strerror}") from None
        stdout.write(done.stdout)
        return done.returncode if done.returncode >= 0 else _SIGNALLED - done.returncode, done.stderr

    def close(self) -> None:
        """See ``Transport``; there is nothing to close."""
