"""Where a command finds its node or coordinator, and how it asks their daemons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from protocol.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from coordinator.config import CoordinatorConfig
    from node.config import NodeConfig
    from node.keystore import Keystore
    from node.store import Store

ANSWER_SECONDS = 20

NodeFile = Annotated[
    Path, typer.Option("--config", envvar="CONCORDAT_NODE", help="The node's configuration file.")
]
CoordinatorFile = Annotated[
    Path,
    typer.Option(
        "--coordinator", envvar="CONCORDAT_COORDINATOR", help="The coordinator's configuration file."
    ),
]
CoordinatorConfigFile = Annotated[
    Path,
    typer.Option(
        "--config",
        "--coordinator",
        envvar="CONCORDAT_COORDINATOR",
        help="The coordinator's configuration file.",
    ),
]
NODE, COORDINATOR = Path("node.toml"), Path("coordinator.toml")


def load_node(file: Path) -> NodeConfig:
    """Read a node's configuration."""
    from node.config import load

    return load(file)


def keys_of(config: NodeConfig) -> Keystore:
    """Open a node's keys."""
    from node.keystore import Keystore

    return Keystore(config.path("keys"), config.passphrase())


def store_of(config: NodeConfig) -> Store:
    """Open a node's database; a node that never ran has none.

    Raises:
        ConfigurationError: there is no database yet.
    """
    from node.store import Store

    url = config.database_url(config.database.url)
    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite") and not file.exists():
        raise ConfigurationError(
            "NODE_NEW", f"{config.node.name} has no database yet", "`concordat node enroll` makes it."
        )
    return Store.open(url)


def ask_node(config: NodeConfig) -> dict[str, Any]:
    """Return what a node's daemon says of itself.

    Raises:
        Unavailable: it doesn't answer.
    """
    from multiprocessing.connection import Client

    try:
        with Client(str(config.socket()), "AF_UNIX") as connection:
            connection.send_bytes(b"S")
            if not connection.poll(ANSWER_SECONDS):
                raise EOFError
            answer: dict[str, Any] = json.loads(connection.recv_bytes())
            return answer
    except (OSError, EOFError):
        raise Unavailable(
            "NODE_DOWN",
            f"the daemon of {config.node.name} doesn't answer",
            "`concordat node run` starts it; its log is logs/*.daemon.log.",
        ) from None


def load_coordinator(file: Path) -> CoordinatorConfig:
    """Read the coordinator's configuration."""
    from coordinator.config import load

    return load(file)


def ask_coordinator(file: Path, method: str, path: str, body: Any = None) -> Any:
    """Call the coordinator's operators' interface."""
    from concordat.lab import call

    return call(load_coordinator(file), method, path, body)


def supervised(*directories: Path) -> list[dict[str, Any]]:
    """Return the processes of the first supervisord that runs in one of the directories."""
    from concordat.supervision import Supervisor

    for directory in directories:
        supervisor = Supervisor(directory.resolve())
        if supervisor.alive():
            return supervisor.processes()
    return []
