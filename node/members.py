"""Who the others are: the directory that a node believes, kept on disk and renewed from the coordinator."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from node.config import NodeConfig
from node.keystore import write_private
from protocol.errors import ConfigurationError, ProtocolError
from protocol.identity import Directory
from protocol.keys import PublicKey

FILE = "consortium/directory.json"


class Members:
    """The directory, checked against the registry's key and the institution's own pins."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._path = config.path(FILE)
        self._lock = threading.Lock()
        self._directory = self._check(_read(self._path))

    def directory(self) -> Directory:
        """Return who is who."""
        return self._directory

    def renew(self, statements: list[dict[str, Any]]) -> bool:
        """Take newer statements if they hold; returns whether anything changed.

        Raises:
            ProtocolError: a statement is forged, or differs from a pin; the old directory stays.
        """
        with self._lock:
            directory = self._check(statements)
            if set(directory) == set(self._directory) and all(
                directory[name] == self._directory[name] for name in directory
            ):
                return False
            save(self._path, statements)
            self._directory = directory
            return True

    def _check(self, statements: list[dict[str, Any]]) -> Directory:
        trust, consortium = self._config.trust, self._config.joined()
        registry = PublicKey.from_hex(consortium.registry_key)
        directory = Directory.from_statements(
            statements, consortium.name, registry, int(time.time()), trust.pins or None
        )
        unpinned = sorted(set(directory) - set(trust.pins) - {self._config.node.name})
        if unpinned and not trust.accept_registry:
            raise ProtocolError(
                "PARTY_UNPINNED",
                f"there is no pinned fingerprint for {', '.join(unpinned)}",
                "Compare fingerprints by another channel and add them under [trust.pins], "
                "or set trust.accept_registry if the registry's word is enough.",
            )
        return directory


def save(path: Path, statements: list[dict[str, Any]]) -> None:
    """Keep statements on disk."""
    write_private(path, json.dumps(statements).encode())


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        statements: list[dict[str, Any]] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise ConfigurationError(
            "DIRECTORY_UNREADABLE", f"{path} can't be read", "`concordat node enroll` fetches it."
        ) from None
    return statements
