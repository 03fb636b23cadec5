"""Write docs/results.schema.json, the JSON Schema of results.json, from the types that write it.

python docs/schema.py
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from splitvote.harness.store import Results

if __name__ == "__main__":
    path = Path(__file__).with_name("results.schema.json")
    path.write_bytes(msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Results)), indent=1) + b"\n")
    print(path)
