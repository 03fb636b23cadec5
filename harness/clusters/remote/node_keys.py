"""The keys of a checkout's own nodes: ours to log in with, and theirs to be known by, made at first use.

They are in a folder that is never committed; only ``node/`` in it is mounted
into the nodes, so that they never see our private key::

    FOLDER/id_ed25519  FOLDER/known_hosts  FOLDER/node/authorized_keys  FOLDER/node/host_ed25519
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from splitvote.harness.errors import ConfigError, EnvironmentFailure

ALIAS: Final = "splitvote-node"
"""What ``known_hosts`` calls the nodes, whose ports are other ones each time (ssh's HostKeyAlias)."""

HOW_TO_GET: Final = "pip install 'splitvote[ssh]'"


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """A folder with a complete set of keys; ``host_key`` is the nodes' public one."""

    folder: Path
    host_key: str

    @property
    def private(self) -> Path:
        """The key to log in with."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """For an ssh client with HostKeyAlias."""
        return self.folder / "known_hosts"


def node_keys(folder: Path) -> NodeKeys:
    """The keys in a folder, made if they are not there; raises ConfigError or EnvironmentFailure."""
    host_key = folder / "node" / "host_ed25519.pub"
    try:
        if not host_key.exists():
            _make(folder)
        return NodeKeys(folder, host_key.read_text().strip())
    except OSError as failure:
        raise EnvironmentFailure(f"the nodes' keys cannot be made in {folder}: {failure.strerror}") from None


def _make(folder: Path) -> None:
    """Make everything; the nodes' public key comes last, and says that all is there."""
    (folder / "node").mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    ours, theirs = _pair(), _pair()
    _write(folder / "id_ed25519", ours[0], 0o600)
    _write(folder / "id_ed25519.pub", ours[1], 0o644)
    _write(folder / "known_hosts", f"{ALIAS} {theirs[1]}", 0o644)
    _write(folder / "node" / "authorized_keys", ours[1], 0o644)
    _write(folder / "node" / "host_ed25519", theirs[0], 0o600)
    _write(folder / "node" / "host_ed25519.pub", theirs[1], 0o644)


def _pair() -> tuple[str, str]:
    """A fresh key pair: the private half as OpenSSH has it in files, the public half as one line."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
    except ImportError:
        raise ConfigError(f"keys for the nodes are made by cryptography, which is missing: {HOW_TO_GET}") from None
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return private.decode(), public.decode() + "\n"


def _write(file: Path, content: str, mode: int) -> None:
    """Put a file in its place in one step, with its mode from the start."""
    fresh = file.with_suffix(".fresh")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as output:
        output.write(content)
    fresh.replace(file)
