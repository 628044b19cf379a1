"""The node's own table: read once per process from the configured file, checked against the data contract."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from node.config import NodeConfig
from node.ingest import Mapping, Table, read
from protocol.contract import DataContract, Dataset, parse
from protocol.errors import ConfigurationError


class TableSource:
    """Where a role finds its rows.

    Args:
        role: whose table it is.
        load: reads the data contract and the table; called once.
    """

    def __init__(self, role: str, load: Callable[[], tuple[DataContract, Table]]) -> None:
        self._role, self._load = role, load
        self._lock = threading.Lock()
        self._loaded: tuple[DataContract, Table] | None = None

    @classmethod
    def from_config(cls, config: NodeConfig) -> TableSource:
        """Return the source that a node's configuration names."""
        return cls(config.node.role, lambda: _read(config))

    def contract_digest(self) -> str:
        """Return the digest of the data contract that this institution has accepted."""
        return self._both()[0].digest

    def dataset(self) -> Dataset:
        """Return what the contract asks of this role."""
        return self._both()[0].dataset_for(self._role)

    def table(self) -> Table:
        """Return the checked table."""
        return self._both()[1]

    def summary(self) -> dict[str, Any]:
        """Return what an operator may see of the table: counts and names, no values."""
        table = self.table()
        return {
            "file": table.source.file,
            "rows": table.rows,
            "fields": len(table.frame.columns),
            "contract": self.contract_digest(),
            "missing": {name: count for name, count in table.source.missing.items() if count},
        }

    def _both(self) -> tuple[DataContract, Table]:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded


def _read(config: NodeConfig) -> tuple[DataContract, Table]:
    data = config.data
    if data is None:
        raise ConfigurationError(
            "NODE_NO_DATA",
            f"{config.node.name} names no table",
            "Add a [data] section with file and id to the node's configuration.",
        )
    path = config.path(data.contract)
    try:
        document = path.read_bytes()
    except OSError as error:
        raise ConfigurationError("CONTRACT_UNREADABLE", f"{path}: {error.strerror}") from None
    contract = parse(document, str(path))
    file = config.path(data.file)
    mapping = Mapping(path=file, id=data.id, label=data.label, columns=data.columns)
    return contract, read(file, contract.dataset_for(config.node.role), mapping)
