"""Whether every fault of a run was proven, and proven to be healed: ``proven.py RUN FAMILY,FAMILY...``.

Prints what was done of each family, and every fault that was not proven with
what was seen instead; exits 1 where there is one, or a family of those named
has no fault that was proven and healed, or the verdict is not VALID.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from splitvote.nemesis import read_faults


def main(run: Path, wanted: list[str]) -> int:
    """Print the findings; 0 when all is as it should be."""
    records = read_faults(run / "faults.jsonl")
    last = {record.id: record for record in records}
    doubtful = [record for record in records if record.phase in ("unproven", "heal_unproven")]
    unended = [record for record in last.values() if record.phase != "healed"]
    for record in (*doubtful, *unended):
        print(f"  {record.family}:{record.fault} {record.phase}: {record.error or record.proof}")
    done = Counter(f"{record.family}:{record.fault}" for record in last.values() if record.phase == "healed")
    print("  proven and healed: " + ", ".join(f"{name} x{count}" for name, count in sorted(done.items())))
    families = {name.partition(":")[0] for name in done}
    missing = [family for family in wanted if family not in families]
    if missing:
        print(f"  no fault was proven and healed of: {', '.join(missing)}")
    verdict = json.loads((run / "results.json").read_text())["verdict"]
    print(f"  verdict: {verdict}")
    return int(bool(doubtful or unended or missing) or verdict != "VALID")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2].split(",")))
