"""The same task by this project and by public peers, in one run: seconds, AUC, and what each reveals.

    python -m benchmarks.peers --data DIR [--rows 6000] [--home DIR] [--only ours mpyc] [--deployed] [--out FILE]

The task: default-credit, columns split between banks and partners (``benchmarks.datasets``), the same rows and the
same hold-out for all. For this project three banks divide the rows and two partners the partner's columns; peers take
one bank and one partner. A partner lists a sixth more enterprises than the banks have.

Each peer is installed into a virtual environment of its own below ``--home`` (a temporary directory if not given; a
directory that is kept saves the installation next time) and runs a small script of ``scripts`` there. What doesn't
install or run is shown with the last line of its error. Installation is not in the seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import others, ours, task


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=(__doc__ or "").splitlines()[0])
    place = os.environ.get("CONCORDAT_DATA")
    parser.add_argument("--data", type=Path, default=place and Path(place), help="folder of the data sets")
    parser.add_argument("--rows", type=int, default=6_000, help="rows of all banks together (default 6,000)")
    parser.add_argument("--home", type=Path, help="where environments are made and kept")
    parser.add_argument("--only", nargs="+", choices=["ours", *others.NAMES], help="some of them")
    parser.add_argument("--deployed", action="store_true", help="ours on real processes instead of simulated")
    parser.add_argument("--patience", type=int, default=600, help="seconds for a peer's run (default 600)")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("--data or CONCORDAT_DATA must name the folder of the data sets")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    home = options.home or Path(tempfile.mkdtemp(prefix="peers-"))
    home.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="peers-data-"))
    try:
        made = task.prepare(options.data, work, options.rows)
        lines: list[dict[str, Any]] = []
        if not options.only or "ours" in options.only:
            said("ours")
            lines += ours.measure(made, work, options.deployed)
        for name in others.NAMES:
            if not options.only or name in options.only:
                said(name)
                lines.append(others.measure(name, made, home, work, options.patience))
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if options.home is None:
            shutil.rmtree(home, ignore_errors=True)
    result = {"cores": os.cpu_count(), "rows": made.rows, "holdout": made.holdout, "measured": lines}
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))
    print(table(lines), file=sys.stderr)
    return 0


def said(name: str) -> None:
    print(f"{name} …", file=sys.stderr, flush=True)


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Return the comparison as a Markdown table."""
    text = ["| who | seconds | AUC | what it reveals |", "|---|---|---|---|"]
    for line in lines:
        if "failed" in line:
            text.append(f"| {line['who']} | - | - | didn't run: {line['failed'].replace('|', '/')} |")
            continue
        seconds = "-" if line["seconds"] is None else f"{line['seconds']:.1f}"
        text.append(f"| {line['who']} | {seconds} | {line['auc']:.4f} | {line['reveals']} |")
    return "\n".join(text)


if __name__ == "__main__":
    sys.exit(main())
