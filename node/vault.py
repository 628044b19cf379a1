"""Encrypted files for what a job must keep between steps: keys, seeds, masked bytes that may have to be resent.

Every job has a key of its own, itself encrypted under the node's storage key; erasing a job deletes that key first,
so that what a disk may still hold of its files can't be read. AES-256-GCM with a random nonce; the file's name is
bound as associated data, so that no file can stand in for another.

Not protected: that a disk or a backup really forgets a deleted key.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from node.keystore import write_private
from protocol.canonical import lp
from protocol.errors import ProtocolError

NONCE = 12
_SAFE = re.compile(r"[A-Za-z0-9._-]{1,120}")


class Vault:
    """Encrypted files by job and name."""

    def __init__(self, directory: Path, storage_key: bytes) -> None:
        self._directory = directory
        self._storage = AESGCM(storage_key)

    def put(self, job: str, name: str, data: bytes) -> None:
        """Store bytes for a job; a repeat replaces them."""
        nonce = os.urandom(NONCE)
        sealed = nonce + self._cipher(job).encrypt(nonce, data, lp("vault", job, name))
        write_private(self._path(job, name), sealed)

    def get(self, job: str, name: str) -> bytes | None:
        """Return what was stored, or None.

        Raises:
            ProtocolError: the file was changed.
        """
        path = self._path(job, name)
        if not path.exists():
            return None
        sealed = path.read_bytes()
        try:
            return self._cipher(job).decrypt(sealed[:NONCE], sealed[NONCE:], lp("vault", job, name))
        except InvalidTag:
            raise ProtocolError("VAULT_TAMPERED", f"the stored file {name} of a job was changed") from None

    def erase(self, job: str) -> None:
        """Forget everything of a job, its key first."""
        folder = self._folder(job)
        (folder / "key").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def jobs(self) -> list[str]:
        """Return the jobs of which something is stored."""
        return sorted(entry.name for entry in self._directory.glob("*") if (entry / "key").exists())

    def _cipher(self, job: str) -> AESGCM:
        path = self._folder(job) / "key"
        label = lp("vault key", job)
        if not path.exists():
            key, nonce = secrets.token_bytes(32), os.urandom(NONCE)
            write_private(path, nonce + self._storage.encrypt(nonce, key, label))
        sealed = path.read_bytes()
        try:
            return AESGCM(self._storage.decrypt(sealed[:NONCE], sealed[NONCE:], label))
        except InvalidTag:
            raise ProtocolError("VAULT_TAMPERED", "the stored key of a job was changed") from None

    def _folder(self, job: str) -> Path:
        return self._directory / _safe(job)

    def _path(self, job: str, name: str) -> Path:
        return self._folder(job) / (_safe(name) + ".sealed")


def _safe(name: str) -> str:
    if not _SAFE.fullmatch(name) or name.startswith("."):
        raise ProtocolError("VAULT_NAME", "a stored file has an impossible name")
    return name
