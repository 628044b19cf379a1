"""What a party keeps beyond a job: VOPRF outputs of an epoch, keys, the record of spent privacy.

Encrypted at rest like the secrets of jobs (``node.vault``), but not erased with any job.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Protocol

from node.config import NodeConfig
from node.keystore import Keystore
from node.vault import Vault


def shelf_of(epoch: str) -> str:
    """Return the shelf of an epoch of VOPRF keys, whatever its name is spelled with."""
    return "epoch-" + sha256(epoch.encode()).hexdigest()[:32]


class Keep(Protocol):
    """Bytes by shelf and name."""

    def get(self, shelf: str, name: str) -> bytes | None:
        """Return what was put there, None if nothing was."""
        ...

    def put(self, shelf: str, name: str, data: bytes) -> None:
        """Keep bytes durably; a repeat replaces them."""
        ...


class MemoryKeep:
    """A keep for simulations."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], bytes] = {}

    def get(self, shelf: str, name: str) -> bytes | None:
        """See ``Keep``."""
        return self._kept.get((shelf, name))

    def put(self, shelf: str, name: str, data: bytes) -> None:
        """See ``Keep``."""
        self._kept[(shelf, name)] = data


def keep_of(config: NodeConfig) -> Keep:
    """Return the keep of a node."""
    keys = Keystore(config.path("keys"), config.passphrase())
    return Vault(config.path("keep"), keys.storage_key())
