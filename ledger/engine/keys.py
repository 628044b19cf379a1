"""The keys of an operator or a member on disk: one for its identity, one for checkpoints.

Each lies encrypted (`protocol.keys`) beside a generated password in a file of mode 0600, unless the
environment variable ``CONCORDAT_LEDGER_PASSWORD_FILE`` names another place for the password. The two keys are
never the same: checkpoints are C2SP notes, whose signatures have no domain of their own.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.engine.genesis import Member
from ledger.keyfiles import password_file, write_new
from protocol.errors import ConfigurationError
from protocol.keys import IdentityKey, PublicKey


@dataclass(frozen=True)
class LedgerKeys:
    """Both keys.

    Attributes:
        identity: signs documents and acknowledgements.
        checkpoint: signs checkpoints.
    """

    identity: IdentityKey
    checkpoint: Ed25519PrivateKey

    def member(self, name: str) -> Member:
        """Return the public half under a party's name."""
        raw = self.checkpoint.public_key().public_bytes_raw()
        return Member(name, self.identity.public, PublicKey(raw))

    @classmethod
    def generate(cls) -> LedgerKeys:
        """Draw both keys."""
        return cls(IdentityKey.generate(), Ed25519PrivateKey.generate())


def create(folder: Path) -> LedgerKeys:
    """Draw both keys and write them, encrypted.

    Raises:
        ConfigurationError: ``LEDGER_KEYS_EXIST``.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys, password = LedgerKeys.generate(), secrets.token_urlsafe(32).encode()
    try:
        write_new(password_file(folder), password)
        write_new(folder / "identity.pem", keys.identity.to_pem(password))
        checkpoint = keys.checkpoint.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )
        write_new(folder / "checkpoint.pem", checkpoint)
    except FileExistsError as error:
        raise ConfigurationError("LEDGER_KEYS_EXIST", "Keys lie in this folder already.") from error
    return keys


def load(folder: Path) -> LedgerKeys:
    """Read both keys.

    Raises:
        ConfigurationError: ``LEDGER_KEYS``, ``KEY_UNREADABLE``.
    """
    try:
        password = password_file(folder).read_bytes().strip()
        identity = IdentityKey.from_pem((folder / "identity.pem").read_bytes(), password)
        pem = (folder / "checkpoint.pem").read_bytes()
        checkpoint = serialization.load_pem_private_key(pem, password)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            "LEDGER_KEYS", "The ledger keys can't be read.", "Check the folder and the password file."
        ) from error
    if not isinstance(checkpoint, Ed25519PrivateKey):
        raise ConfigurationError("LEDGER_KEYS", "The checkpoint key is not an Ed25519 key.")
    return LedgerKeys(identity, checkpoint)
