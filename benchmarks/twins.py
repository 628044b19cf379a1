"""A deployed job and its simulated twin, on any data directories: the models must be equal to the last bit.

    python -m benchmarks.twins --data DIR [DIR …] [--out out/twins.json]

Each directory holds tables and a manifest (docs/demo-data.md). Without one the synthetic economy is used.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from concordat.demo import Options, run


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    for folder in options.data or [None]:
        print(f"{folder or 'synthetic economy'}: simulated, then deployed …", file=sys.stderr)
        simulated = run(Options(data=folder, simulated=True))
        deployed = run(Options(data=folder))
        found.append(
            {
                "data": deployed["data"]["name"],
                "enterprises": deployed["data"]["enterprises"],
                "equal": simulated["model"]["digest"] == deployed["model"]["digest"],
                "model": deployed["model"]["digest"],
                "auc": deployed["auc"],
                "seconds": {"simulated": simulated["seconds"], "deployed": deployed["seconds"]},
                "rounds": [s["seconds"] for s in deployed["steps"] if s["step"].startswith("round")],
            }
        )
    text = json.dumps({"twins": found}, indent=1)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)
    print(text)
    if not all(twin["equal"] for twin in found):
        sys.exit("a deployed model differs from its simulated twin")


if __name__ == "__main__":
    main()
