"""Generate ``splitvote.harness.etcd.stubs`` from the .proto files beside this script (``make stubs``).

The files are given to protoc under the virtual folder of the package the
generated modules live in, so that they import one another by that package's
name and register under file names that are ours alone in protobuf's
process-wide pool.  No service stubs are generated: calls go by method path
(see ``splitvote.harness.etcd.methods``).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

PROTO: Final = Path(__file__).resolve().parent
STUBS: Final = PROTO.parent / "stubs"
PACKAGE: Final = "splitvote/harness/etcd/stubs"


def generate(destination: Path) -> list[Path]:
    """Write ``*_pb2.py`` and ``*_pb2.pyi`` into ``destination``; returns their paths.

    Raises CalledProcessError when protoc (grpcio-tools, of the extra ``dev``) refuses the files or is not installed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        sources = sorted(f"{PACKAGE}/{proto.name}" for proto in PROTO.glob("*.proto"))
        outputs = [f"--python_out={scratch}", f"--pyi_out={scratch}"]
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PACKAGE}={PROTO}", *outputs, *sources]
        subprocess.run(command, check=True)
        written = []
        for made in sorted(Path(scratch, PACKAGE).iterdir()):
            written.append(destination / made.name)
            written[-1].write_bytes(made.read_bytes())
    return written


if __name__ == "__main__":
    for path in generate(STUBS):
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
