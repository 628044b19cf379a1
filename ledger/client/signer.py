"""A key in memory, from raw bytes or from an encrypted keystore that is decrypted once."""

from __future__ import annotations

import json
from pathlib import Path

import coincurve
from eth_hash.auto import keccak

from ledger.engine.genesis import sign_legacy
from protocol.errors import ConfigurationError


class LocalSigner:
    """A secp256k1 key for one chain."""

    def __init__(self, key: coincurve.PrivateKey, chain_id: int) -> None:
        self._key = key
        self._chain_id = chain_id
        self._address = bytes(keccak(key.public_key.format(compressed=False)[1:])[12:])

    def __repr__(self) -> str:
        return f"LocalSigner(0x{self._address.hex()})"

    @classmethod
    def from_keystore(cls, path: Path, password: str, chain_id: int) -> LocalSigner:
        """Decrypt a Web3 Secret Storage keystore (scrypt: about two seconds, so once per process).

        Raises:
            ConfigurationError: ``KEYSTORE``.
        """
        from eth_keyfile.keyfile import decode_keyfile_json  # a slow import that only keystores need

        try:
            secret = decode_keyfile_json(json.loads(path.read_text()), password.encode())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                "KEYSTORE", "The keystore can't be read.", "Check its file and its password."
            ) from error
        return cls(coincurve.PrivateKey(bytes(secret)), chain_id)

    @property
    def address(self) -> bytes:
        """The sender's address, 20 bytes."""
        return self._address

    def sign(self, nonce: int, to: bytes, data: bytes, gas: int) -> bytes:
        """Return a raw transaction of no value and no fee."""
        return sign_legacy(self._key, self._chain_id, nonce, to, data, gas)
