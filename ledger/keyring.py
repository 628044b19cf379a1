"""A party's keys for the ledger: one seed, kept in an encrypted keystore, decrypted once per process.

Specification: the seed of 32 bytes lies in a Web3 Secret Storage keystore (version 3, scrypt). Every key is
``HKDF-Expand(seed, lp("concordat/ledger-key/v1", purpose, index), 48)`` (RFC 5869, SHA-256), read as an integer
modulo the order of secp256k1 minus one, plus one; the 16 surplus bytes make the bias negligible.

Invariants: keys of different purposes or indices are independent, so one key per receivable costs one number to
remember, and nobody who sees two of them can tell that they belong together.

Not protected: whoever has the seed has every key. Python does not erase secrets from memory.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import coincurve
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ledger.keyfiles import password_file, write_new
from ledger.signers import AccountKey
from protocol.canonical import lp
from protocol.errors import ConfigurationError

SEED_BYTES = 32
_DOMAIN = "concordat/ledger-key/v1"
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

# The work factor protects a password that somebody can remember. The one made here is 256 random bits.
_WORK_RANDOM_PASSWORD = 1 << 12


class Keyring:
    """The keys that derive from one seed."""

    def __init__(self, seed: bytes) -> None:
        """Take a seed of 32 bytes.

        Raises:
            ConfigurationError: ``KEYSTORE`` for another length.
        """
        if len(seed) != SEED_BYTES:
            raise ConfigurationError("KEYSTORE", f"A keyring's seed must have {SEED_BYTES} bytes.")
        self._seed = seed

    def __repr__(self) -> str:
        return "Keyring()"

    @classmethod
    def create(cls, folder: Path) -> Keyring:
        """Draw a seed and write it, encrypted under a generated password that lies beside it.

        Raises:
            ConfigurationError: ``LEDGER_KEYS_EXIST``.
        """
        from eth_keyfile.keyfile import create_keyfile_json  # slow to import, and only keystores need it

        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        seed, password = secrets.token_bytes(SEED_BYTES), secrets.token_urlsafe(32)
        keystore = create_keyfile_json(
            seed, password.encode(), kdf="scrypt", iterations=_WORK_RANDOM_PASSWORD
        )
        try:
            write_new(password_file(folder), password.encode())
            write_new(folder / "keystore.json", json.dumps(keystore).encode())
        except FileExistsError as error:
            raise ConfigurationError("LEDGER_KEYS_EXIST", f"{folder} holds keys already.") from error
        return cls(seed)

    @classmethod
    def load(cls, folder: Path) -> Keyring:
        """Decrypt a seed.

        The password is read from ``CONCORDAT_LEDGER_PASSWORD_FILE``, or from ``password`` beside the keystore.

        Raises:
            ConfigurationError: ``KEYSTORE``.
        """
        from eth_keyfile.keyfile import decode_keyfile_json

        try:
            password = password_file(folder).read_bytes().strip()
            return cls(
                bytes(decode_keyfile_json(json.loads((folder / "keystore.json").read_text()), password))
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                "KEYSTORE",
                f"{folder / 'keystore.json'} can't be read.",
                "Check the file and its password file.",
            ) from error

    def account(self, purpose: str, index: int = 0) -> AccountKey:
        """Return a signing key."""
        number = int.from_bytes(self._expand(purpose, index, 48), "big") % (_ORDER - 1) + 1
        return AccountKey(coincurve.PrivateKey(number.to_bytes(32, "big")))

    def secret(self, purpose: str) -> bytes:
        """Return 32 bytes for another use, such as sealing what is stored."""
        return self._expand("secret/" + purpose, 0, 32)

    def _expand(self, purpose: str, index: int, length: int) -> bytes:
        info = lp(_DOMAIN, purpose, index)
        return HKDFExpand(algorithm=hashes.SHA256(), length=length, info=info).derive(self._seed)
