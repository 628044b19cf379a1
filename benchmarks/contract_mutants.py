"""Mutants of the contracts: does the state machine, or a rule's own test, kill each?

``python -m benchmarks.contract_mutants [--only TEXT] [--workers N] [--out FILE]``. Needs Node.js and the compiler's
npm packages. A mutant is a source patch of ``tests/contracts/mutants.json``; ``kills`` names what must kill it:
``machine`` (random histories alone) or ``rules`` (the tests named in ``tests``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONTRACTS = ROOT / "ledger" / "contracts"
TESTS = ROOT / "tests" / "contracts"


def build(mutant: dict[str, Any], out: Path) -> None:
    """Compile the modules that a mutant changes into a folder.

    Raises:
        ValueError: the patch no longer applies to exactly one place.
        subprocess.CalledProcessError: the mutant does not compile.
    """
    source = (CONTRACTS / mutant["file"]).read_text()
    if source.count(mutant["old"]) != 1:
        raise ValueError(f"mutant {mutant['name']!r} no longer applies")
    out.mkdir(parents=True, exist_ok=True)
    patch = out / "patch"
    patch.write_text(json.dumps({mutant["file"]: source.replace(mutant["old"], mutant["new"])}))
    command = [
        "node",
        "build.mjs",
        "--out",
        str(out),
        "--only",
        ",".join(mutant["modules"]),
        "--patch",
        str(patch),
    ]
    # A mutant may leave a name unused; only real errors count.
    subprocess.run(
        command, cwd=CONTRACTS, check=True, capture_output=True, env={**os.environ, "CONCORDAT_LENIENT": "1"}
    )


def killed(mutant: dict[str, Any], artifacts: Path) -> tuple[bool, str]:
    """Whether the named tests fail on a mutant, and which test did."""
    by_machine = mutant["kills"] == "machine"
    chosen = [str(TESTS / "test_ledger_machine.py")] if by_machine else [str(TESTS), "-k", mutant["tests"]]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", *chosen],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={"CONCORDAT_MACHINE_EXAMPLES": "60", **os.environ, "CONCORDAT_CONTRACTS": str(artifacts)},
    )
    failed = [line for line in result.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return result.returncode == 1, failed[0].split("::")[-1][:90] if failed else ""


def judge(mutant: dict[str, Any]) -> dict[str, Any]:
    """Build and test one mutant."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            build(mutant, Path(folder))
        except subprocess.CalledProcessError as problem:
            return {
                **_named(mutant),
                "killed": False,
                "by": f"does not compile: {problem.stderr.decode()[:200]}",
            }
        dead, by = killed(mutant, Path(folder))
    return {**_named(mutant), "killed": dead, "by": by, "seconds": round(time.monotonic() - start, 1)}


def _named(mutant: dict[str, Any]) -> dict[str, Any]:
    return {"name": mutant["name"], "kills": mutant["kills"]}


def main() -> int:
    """Judge the mutants; exit 1 if one survives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="mutants whose name or kind holds this text")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    mutants = json.loads((TESTS / "mutants.json").read_text())
    chosen = [one for one in mutants if options.only in one["name"] or options.only == one["kills"]]
    results = []
    with ThreadPoolExecutor(options.workers) as pool:
        for one in pool.map(judge, chosen):
            results.append(one)
            sys.stderr.write(f"{'killed' if one['killed'] else 'SURVIVED'}  {one['name']}  {one['by']}\n")
            sys.stderr.flush()
    report = {"mutants": len(results), "killed": sum(one["killed"] for one in results), "results": results}
    text = json.dumps(report, indent=1)
    if options.out:
        options.out.write_text(text + "\n")
    sys.stdout.write(text + "\n")
    return 0 if report["killed"] == report["mutants"] else 1


if __name__ == "__main__":
    sys.exit(main())
