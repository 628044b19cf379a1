"""The processes of the coordinator, described for whatever supervises them."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

from coordinator import founding
from coordinator.config import CONFIG_VARIABLE, CoordinatorConfig
from coordinator.relay import RELAY_CONFIG, RELAY_PID
from node.processes import FLOWER_ENVIRONMENT, PYTHON, Process


def processes(config: CoordinatorConfig, without: Collection[str] = ()) -> list[Process]:
    """Return the coordinator's processes: the exchange's server, its daemon, Flower's SuperLink and SuperExec.

    Args:
        config: the coordinator's.
        without: names of processes that run elsewhere, such as the exchange's server in a container of its own.
    """
    binaries = Path(sys.executable).parent

    def path(*parts: str) -> str:
        return str(config.path(*parts).resolve())

    host, _, port = config.listen.superlink.rpartition(":")
    flower = {**FLOWER_ENVIRONMENT, "FLWR_HOME": path("flower"), CONFIG_VARIABLE: str(config.source)}
    authority = path(founding.AUTHORITY_CERTIFICATE)
    superlink = (
        str(binaries / "flower-superlink"),
        *("--ssl-ca-certfile", authority),
        *("--ssl-certfile", path(founding.SERVER_CERTIFICATE)),
        *("--ssl-keyfile", path(founding.SERVER_KEY)),
        "--enable-supernode-auth",
        *("--host", host, "--port", port),
        *("--database", path("superlink.db")),
        *("--isolation", "process"),
        *("--superexec-auth-secret-file", path(founding.SUPEREXEC_SECRET)),
        "--disable-runtime-dependency-installation",
    )
    superexec = (
        str(binaries / "flower-superexec"),
        *("--runtime-api-address", config.listen.superlink),
        *("--root-certificates", authority),
        *("--superexec-auth-secret-file", path(founding.SUPEREXEC_SECRET)),
    )
    relay = (str(binaries / "nats-server"), "--config", path(RELAY_CONFIG), "--pid", path(RELAY_PID))
    described = [
        Process("exchange", relay, {}, 10),
        Process("superlink", superlink, flower, 20),
        Process("daemon", (*PYTHON, "coordinator.daemon", str(config.source)), FLOWER_ENVIRONMENT, 30),
        Process("superexec", superexec, {**flower, "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.25"}, 40),
    ]
    return [process for process in described if process.name not in without]
