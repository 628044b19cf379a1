"""Public peers: what they are, how they are installed, and what each reveals by its own documentation."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sklearn.metrics import roc_auc_score

from benchmarks.peers.task import Task

SCRIPTS = Path(__file__).parent / "scripts"
INSTALLING = 1_800


@dataclass(frozen=True)
class Peer:
    """A public peer.

    Attributes:
        title: what is measured.
        packages: what is installed, pinned.
        script: in ``scripts``.
        arguments: before the script's own (input folder, output file, workspace).
        reveals: to whom what is told.
    """

    title: str
    packages: tuple[str, ...]
    script: str
    arguments: tuple[str, ...]
    reveals: str


PEERS = {
    "nvflare": Peer(
        "NVFlare 2.9, DH-PSI + vertical XGBoost, 60 trees, simulator",
        ("nvflare==2.9.0", "xgboost==3.2.0", "openmined-psi==2.0.6", "tensorboard", "pandas"),
        "nvflare_vertical.py",
        (),
        "the common ids to both sides (the partner learns who is a client); every row's gradient, hence its label,"
        " to the partner in the clear (the encrypting plugin is not in any package)",
    ),
    "mpyc": Peer(
        "MPyC 0.11, logistic regression on Shamir shares, three processes",
        ("mpyc==0.11", "numpy", "gmpy2"),
        "mpyc_logistic.py",
        ("-M3",),
        "nothing of rows, labels or weights; hold-out scores to the bank. No alignment: ids are matched in the open"
        " first. Any two of the three parties together read everything",
    ),
    "crypten": Peer(
        "CrypTen 0.4, logistic regression on additive shares",
        ("crypten==0.4.1",),
        "crypten_logistic.py",
        (),
        "nothing of rows, labels or weights; hold-out scores to the bank. No alignment; a trusted first or third party"
        " deals the randomness",
    ),
    "secretflow": Peer(
        "SecretFlow, logistic regression in an SPU",
        ("secretflow",),
        "secretflow_logistic.py",
        (),
        "nothing of rows or labels; alignment by PSI tells both sides the common ids",
    ),
}
NAMES = tuple(PEERS)


def measure(name: str, task: Task, home: Path, work: Path, patience: int) -> dict[str, Any]:
    """Install and run one peer; a failure is a result too.

    Args:
        name: of ``NAMES``.
        task: the common task.
        home: where its environment stands or is made.
        work: for its files.
        patience: seconds that its run may take.
    """
    peer = PEERS[name]
    line: dict[str, Any] = {"who": peer.title, "packages": list(peer.packages), "reveals": peer.reveals}
    began = time.monotonic()
    failed = install(home / name, peer.packages)
    line["installation_seconds"] = round(time.monotonic() - began, 1)
    if failed:
        return line | {"failed": f"installation: {failed}"}
    if not (SCRIPTS / peer.script).exists():
        return line | {"failed": "it installs, but no script drives it here"}
    out, space = work / f"{name}.json", work / name
    space.mkdir()
    python = (home / name / "bin" / "python").absolute()
    # Its own programs come first: some start others by name.
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    command = [str(python), str(SCRIPTS / peer.script), *peer.arguments]
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "PATH": path}
    environment.pop("PYTHONPATH", None)
    failed = executed([*command, str(task.folder), str(out), str(space)], space, environment, patience)
    if failed is None and not out.exists():
        failed = "it ended without a result"
    if failed:
        return line | {"failed": failed}
    found: dict[str, Any] = json.loads(out.read_text())
    scores = found.pop("scores", None)
    auc = found.pop("auc") if scores is None else float(roc_auc_score(task.outcome, scores))
    return line | found | {"auc": auc}


def install(place: Path, packages: tuple[str, ...]) -> str | None:
    """Make an environment with packages; returns the last line of the error, None if it stands."""
    done = place / "installed"
    if done.exists() and done.read_text() == "\n".join(packages):
        return None
    failed = executed([sys.executable, "-m", "venv", "--clear", str(place)], Path.cwd(), None, INSTALLING)
    if failed is None:
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        failed = executed([*pip, *packages], place, None, INSTALLING)
    if failed is None:
        done.write_text("\n".join(packages))
    return failed


def executed(
    command: list[str], folder: Path, environment: dict[str, str] | None, patience: int
) -> str | None:
    """Run a command; returns the last telling line of its error, None if it succeeded."""
    # A session of its own, so that what a peer starts ends with it.
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        text, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"not done after {patience} seconds"
    if process.returncode == 0:
        return None
    return last_word(text) or f"ended with {process.returncode}"


def last_word(text: str) -> str:
    """Return the line of a failed command's output that says why, as far as a rule finds it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # pip frames what a package's own build has said; around it stand only its own general remarks.
    edges = [at for at, line in enumerate(lines) if "lines of output]" in line or line == "[end of output]"]
    inner = lines[edges[0] + 1 : edges[1]] if len(edges) > 1 else lines
    telling = [line for line in inner if re.match(r"\w*(error|exception)\b", line, re.IGNORECASE)]
    return (telling[-1:] or (inner[:1] if len(edges) > 1 else inner[-1:]) or [""])[0][:300]
