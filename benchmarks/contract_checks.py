"""Static analysis and symbolic proofs of the contracts.

``python -m benchmarks.contract_checks [slither] [halmos] [--tools DIR] [--out FILE]``; both by default.

slither: no finding of high or medium impact may be left but those judged below, each with its reason. One contract
that inherits every module is analysed, since the modules share one storage by delegatecall and a variable that one of
them writes is read by others.

halmos: one step of the induction over every action on capacity and liens (``contract_induction.t.sol``), from any
state that satisfies the invariants. Signatures are stubbed: ``_signedBy`` is replaced by ``true``. Each proof is run a
second time with a false assertion where the action is applied, which must be refuted: a proof over no path is none.

The tools live in an environment of their own that this command makes (Python packages, and forge from npm); they are
not part of the product's lock. The compiler is the npm build that the contracts are made with.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONTRACTS = ROOT / "ledger" / "contracts"
PYTHON_TOOLS = ("slither-analyzer==0.11.6", "halmos==0.3.3")
FORGE = "@foundry-rs/forge-linux-amd64@1.7.1"
MODULES = (
    *("Ledger", "AnchorModule", "ClaimModule", "LienModule", "SettlementModule", "ContestModule"),
    *("SuccessionModule", "TagModule", "CouncilModule"),
)
PROVED = {"LienModule", "SettlementModule", "SuccessionModule"}
PROOFS = (
    *("check_pledge", "check_release", "check_settleFree", "check_settleLien"),
    *("check_creditNote", "check_amend", "check_split"),
)

JUDGED: dict[str, tuple[str, frozenset[str]]] = {
    "incorrect-equality": (
        "compares enumerations and counters of our own that follow from signed statements; nobody can shift them by "
        "sending something, and the comparisons with the block's time are inequalities",
        frozenset(
            (
                "Anchors._taken",
                "ContestModule.adopt",
                "ContestModule.dispute",
                "Ledger.statusOf",
                "LedgerStorage._holderOf",
                "LedgerStorage._lapsed",
                "LedgerStorage._live",
                "LedgerStorage._moveEpoch",
                "LedgerStorage._save",
                "LedgerStorage._setPledged",
                "LienModule._matchTags",
                "LienModule.pledge",
                "SettlementModule.creditNote",
                "SettlementModule.settleLien",
                "SettlementModule.voidClaim",
                "SuccessionModule._part",
                "SuccessionModule.amend",
                "SuccessionModule.transfer",
                "TagModule._reissueSigned",
                "TagModule.addTags",
                "TagModule.reissue",
            )
        ),
    ),
    "uninitialized-local": (
        "a record in memory begins as zeros, as the language defines; every field that matters is set before it is "
        "stored",
        frozenset(("Anchors._open", "SuccessionModule._part")),
    ),
    "unused-return": (
        "the third value of tryRecover repeats the error's argument; signer and error are checked",
        frozenset(("Signers._signedBy",)),
    ),
}
"""Findings that were read one by one and are no faults: kind, reason, functions. Anything else fails the run."""

_CONFIGURATION = """[profile.default]
src = "src"
test = "test"
out = "out"
libs = ["lib"]
solc = "./solc"
auto_detect_solc = false
offline = true
optimizer = true
optimizer_runs = 200
evm_version = "cancun"
remappings = ["@openzeppelin/=lib/@openzeppelin/"]
ast = true
"""


def tools(folder: Path) -> dict[str, str]:
    """Make the tools' environment if it is not there, and return the variables under which they run."""
    binaries, forge = folder / "venv" / "bin", folder / "node_modules/@foundry-rs/forge-linux-amd64/bin"
    folder.mkdir(parents=True, exist_ok=True)
    if not (binaries / "halmos").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        subprocess.run([str(binaries / "pip"), "install", "--quiet", *PYTHON_TOOLS], check=True)
    if not (forge / "forge").exists():
        subprocess.run(["npm", "install", "--ignore-scripts", "--silent", FORGE], cwd=folder, check=True)
    path = os.pathsep.join((str(binaries), str(forge), os.environ["PATH"]))
    return {**os.environ, "PATH": path, "CONCORDAT_CONTRACTS_FOLDER": str(CONTRACTS)}


def workspace(folder: Path) -> None:
    """Lay the contracts out as forge wants them, with the npm compiler as its compiler."""
    shutil.copytree(CONTRACTS / "src", folder / "src")
    shutil.copytree(CONTRACTS / "node_modules" / "@openzeppelin", folder / "lib" / "@openzeppelin")
    (folder / "test").mkdir()
    (folder / "foundry.toml").write_text(_CONFIGURATION)
    solc = folder / "solc"
    solc.write_text(f'#!/bin/sh\nexec node {Path(__file__).with_name("contract_solc.mjs")} "$@"\n')
    solc.chmod(0o755)


def _share_events(folder: Path) -> None:
    """Declare an event that two modules emit in their common base, since one contract can't declare it twice."""
    files = [folder / f"{name}.sol" for name in MODULES]
    lines = [
        line for file in files for line in set(re.findall(r"^    event .*;$", file.read_text(), re.MULTILINE))
    ]
    twice = sorted({line for line in lines if lines.count(line) > 1})
    for file in files:
        text = file.read_text()
        for line in twice:
            text = text.replace(line + "\n", "")
        file.write_text(text)
    base = folder / "LedgerStorage.sol"
    base.write_text(
        re.sub(r"(abstract contract LedgerStorage \{\n)", rf"\1{chr(10).join(twice)}\n", base.read_text())
    )


def run_slither(environment: dict[str, str]) -> dict[str, Any]:
    """Analyse all modules as one contract."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workspace(folder)
        _share_events(folder / "src")
        imports = "".join(f'import {{{each}}} from "./{each}.sol";\n' for each in MODULES)
        arguments = "constructor(Genesis memory g, Modules memory m) Ledger(g, m) {}"
        (folder / "src" / "Whole.sol").write_text(
            "// SPDX-License-Identifier: Apache-2.0\npragma solidity 0.8.37;\n"
            f"{imports}contract Whole is {', '.join(MODULES)} {{ {arguments} }}\n"
        )
        found = folder / "slither.json"
        command = [
            "slither",
            ".",
            "--filter-paths",
            "lib/",
            "--exclude-informational",
            "--exclude-optimization",
        ]
        ran = subprocess.run(
            [*command, "--json", str(found)],
            cwd=folder,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        if not found.exists():
            raise SystemExit(f"slither failed:\n{ran.stderr[-3000:]}")
        answer = json.loads(found.read_text())
    if not answer["success"]:
        raise SystemExit(f"slither failed: {answer['error']}")
    serious = [
        (one["check"], one["description"].split("(")[0], one["impact"])
        for one in answer["results"].get("detectors", [])
        if one["impact"] in ("High", "Medium")
    ]
    left = [one for one in serious if one[1] not in JUDGED.get(one[0], ("", frozenset()))[1]]
    return {
        "ok": not left,
        "left": sorted({f"{impact} {check}: {place}" for check, place, impact in left}),
        "judged": {
            check: {"count": sum(one[0] == check for one in serious), "reason": reason}
            for check, (reason, _) in JUDGED.items()
        },
    }


def run_halmos(environment: dict[str, str], only: tuple[str, ...], patience: int) -> dict[str, Any]:
    """Prove each action's step, and refute that it never happens."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workspace(folder)
        for unused in set(MODULES) - PROVED | {"AddressBook", "Verifiers"}:
            (folder / "src" / f"{unused}.sol").unlink()
        signers = folder / "src" / "Signers.sol"
        text = signers.read_text()
        stubbed = re.sub(
            r"(function _signedBy\([^{]*\{).*?\n    \}\n", r"\1 return true; }\n", text, flags=re.DOTALL
        )
        if stubbed == text:
            raise SystemExit("the function whose place the stub takes is gone")
        signers.write_text(stubbed)
        source = Path(__file__).with_name("contract_induction.t.sol").read_text()
        (folder / "test" / "Induction.t.sol").write_text(source)
        happens = source.replace("InductionTest", "HappensTest")
        happens = re.sub(
            r"(\) (?:returns \(bytes32 child\) )?\{)(\n            (?:assert|_sums|VM\.assume))",
            r"\1 assert(false);\2",
            happens,
        )
        happens = re.sub(r"contract Holder is .*?\n\}\n", "", happens, flags=re.DOTALL)
        happens = re.sub(r"interface Vm \{.*?\n\}\n", "", happens, flags=re.DOTALL)
        happens = happens.replace(
            'import "../src/Types.sol";',
            'import "../src/Types.sol";\nimport {Vm, Holder} from "./Induction.t.sol";',
        )
        (folder / "test" / "Happens.t.sol").write_text(happens)
        results = {}
        for proof in only:
            start = time.monotonic()
            proved = _halmos(folder, environment, "InductionTest", proof, patience)
            met = _halmos(folder, environment, "HappensTest", proof, patience)
            results[proof] = {
                "proved": proved == "PASS",
                "happens": met == "FAIL",
                "seconds": round(time.monotonic() - start),
            }
            sys.stderr.write(f"{proof}: {proved}; applied on some path: {met == 'FAIL'}\n")
            sys.stderr.flush()
    return {"ok": all(one["proved"] and one["happens"] for one in results.values()), "proofs": results}


def _halmos(folder: Path, environment: dict[str, str], contract: str, proof: str, patience: int) -> str:
    command = ["halmos", "--contract", contract, "--function", proof, "--no-status", "--early-exit"]
    command += ["--solver-timeout-assertion", "60000"]
    try:
        ran = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=patience,
        )
    except subprocess.TimeoutExpired:
        return "TIMEOUT"
    found = re.search(r"\[(PASS|FAIL|TIMEOUT|ERROR)\]", ran.stdout)
    return found[1] if found else f"NONE {ran.stdout[-400:]}{ran.stderr[-400:]}"


def main() -> int:
    """Run the checks; exit 1 if one does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("checks", nargs="*", help="slither, halmos")
    parser.add_argument("--tools", type=Path, default=Path.home() / ".cache" / "concordat" / "contract-tools")
    parser.add_argument("--only", default="", help="proofs whose name holds this text")
    parser.add_argument("--patience", type=int, default=900, help="seconds for one run of halmos")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    environment, report = tools(options.tools), {}
    if not options.checks or "slither" in options.checks:
        report["slither"] = run_slither(environment)
    if not options.checks or "halmos" in options.checks:
        chosen = tuple(one for one in PROOFS if options.only in one)
        report["halmos"] = run_halmos(environment, chosen, options.patience)
    text = json.dumps(report, indent=1)
    if options.out:
        options.out.write_text(text + "\n")
    sys.stdout.write(text + "\n")
    return 0 if all(one["ok"] for one in report.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
