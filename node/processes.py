"""The processes of a node, described for whatever supervises them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from node.config import NodeConfig

FLOWER_ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    # Flower starts its helpers by name; they stand beside the interpreter.
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
}

TAKES_PART_IN_ROUNDS = frozenset({"bank"})
"""Roles whose nodes run Flower's processes."""

PYTHON = (sys.executable, "-P", "-m")
"""The interpreter without the working directory on its path: nothing that lies there may stand in for a package."""


@dataclass(frozen=True)
class Process:
    """One process.

    Attributes:
        name: what operators call it.
        command: program and arguments.
        environment: variables beside the inherited ones.
        priority: lower ones start first and stop last.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    priority: int = 100


def processes(config: NodeConfig, source: Path) -> list[Process]:
    """Return a node's processes: the daemon and, where a role takes part in rounds, Flower's SuperNode.

    The SuperNode forks the executor of its ClientApps. Partners and the compute party speak over the exchange only.
    """
    file = str(source.resolve())
    environment = {
        **FLOWER_ENVIRONMENT,
        "FLWR_HOME": str(config.path("flower").resolve()),
        # One thread of arithmetic each: several nodes on one machine would otherwise fight for its cores.
        "OMP_NUM_THREADS": "1",
    }
    daemon = Process("daemon", (*PYTHON, "node.daemon", file), environment, 100)
    if config.node.role not in TAKES_PART_IN_ROUNDS:
        return [daemon]
    return [
        daemon,
        Process("supernode", (*PYTHON, "node.flower.supernode", file), environment, 110),
    ]
