"""The keys that an institution signs with, their certificates, and what it seals at rest.

Invariants:
    - A key per receivable or lien: `fresh` hands each index out once, under the database's lock, so that the chain
      shows "a bank", not which. Members sign with one key: their anchors are counted.
    - A key without a certificate of the registry signs nothing.
    - What is stored of a document is sealed with AES-256-GCM under a key of the same seed, bound to its place.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.engine import Engine

from ledger.index import tables
from ledger.signers import Certificate, Custodian, Key, Party, Role
from protocol.errors import ConfigurationError, ProtocolError

ROLES = {"supplier": Role.SUPPLIER, "obligor": Role.OBLIGOR, "bank": Role.BANK, "member": Role.MEMBER}

Accounts = Callable[[str, int], Key]
"""(purpose, index) to a signing key."""


def purpose(role: Role) -> str:
    """Return what a role's keys are called in the keyring."""
    return f"role/{int(role)}"


def certificate_json(certificate: Certificate, index: int) -> dict[str, Any]:
    """Return a certificate as a JSON object, with its key's index."""
    return {
        "role": int(certificate.role),
        "index": index,
        "key": certificate.key.hex(),
        "custodian": int(certificate.custodian),
        "key_set": certificate.key_set.hex(),
        "expiry": certificate.expiry,
        "signature": certificate.signature.hex(),
    }


def read_certificates(path: Path) -> dict[tuple[Role, int], Certificate]:
    """Read a batch of certificates, by role and index.

    Raises:
        ConfigurationError: ``CERTIFICATES``.
    """
    try:
        return {
            (Role(each["role"]), int(each["index"])): Certificate(
                Role(each["role"]),
                bytes.fromhex(each["key"]),
                Custodian(each["custodian"]),
                bytes.fromhex(each["key_set"]),
                int(each["expiry"]),
                bytes.fromhex(each["signature"]),
            )
            for each in json.loads(path.read_text("utf-8"))["certificates"]
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            "CERTIFICATES", f"{path} holds no readable certificates.", "Ask the registry for a batch."
        ) from error


def read_public_keys(path: Path) -> dict[tuple[Role, int], bytes]:
    """Read the public keys, 64 bytes each, that a file of certificates names for a signing service.

    Raises:
        ConfigurationError: ``CERTIFICATES``.
    """
    try:
        entries = json.loads(path.read_text("utf-8"))["certificates"]
        return {
            (Role(each["role"]), int(each["index"])): bytes.fromhex(each["public"])
            for each in entries
            if "public" in each
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError("CERTIFICATES", f"{path} names no readable public keys.") from error


class Wallet:
    """One institution's keys."""

    def __init__(
        self,
        engine: Engine,
        accounts: Accounts,
        certificates: Mapping[tuple[Role, int], Certificate],
        sealing_key: bytes,
    ) -> None:
        """Connect the parts.

        Args:
            engine: the service's database, which counts the keys in use.
            accounts: where signing keys come from.
            certificates: by role and index.
            sealing_key: 32 bytes.
        """
        self._engine = engine
        self._accounts = accounts
        self._certificates = certificates
        self._sealing = AESGCM(sealing_key)

    def fresh(self, role: Role) -> int:
        """Return the index of a key that was never used.

        Raises:
            ConfigurationError: ``CERTIFICATES_USED_UP``.
        """
        table = tables.keys
        with self._engine.begin() as db:
            db.execute(
                sa.text("INSERT INTO key_use (role, next) VALUES (:role, 0) ON CONFLICT DO NOTHING"),
                {"role": int(role)},
            )
            query = sa.select(table.c.next).where(table.c.role == int(role)).with_for_update()
            index = int(db.execute(query).scalar_one())
            if (role, index) not in self._certificates:
                raise ConfigurationError(
                    "CERTIFICATES_USED_UP",
                    "Every certified key of this role is in use.",
                    "Ask the registry for another batch of certificates.",
                )
            db.execute(sa.update(table).where(table.c.role == int(role)).values(next=index + 1))
        return index

    def party(self, role: Role, index: int = 0) -> Party:
        """Return a key with its certificate.

        Raises:
            ConfigurationError: ``CERTIFICATE_MISSING``.
        """
        certificate = self._certificates.get((role, index))
        if certificate is None:
            raise ConfigurationError(
                "CERTIFICATE_MISSING",
                "This institution has no certificate for this role.",
                "Look at `roles` in the configuration, or ask the registry for certificates.",
            )
        signer = self._accounts(purpose(role), index)
        if signer.key != certificate.key:
            raise ConfigurationError(
                "CERTIFICATE_OTHER_KEY", "A certificate is over another key than this keyring's."
            )
        return Party(signer, certificate)

    def seal(self, content: Any, place: str) -> bytes:
        """Return a JSON value sealed for a place."""
        nonce = secrets.token_bytes(12)
        return nonce + self._sealing.encrypt(nonce, json.dumps(content).encode(), place.encode())

    def open(self, sealed: bytes, place: str) -> Any:
        """Return what was sealed for a place.

        Raises:
            ProtocolError: ``SEAL_BROKEN``.
        """
        try:
            return json.loads(self._sealing.decrypt(sealed[:12], sealed[12:], place.encode()))
        except (InvalidTag, ValueError) as error:
            raise ProtocolError(
                "SEAL_BROKEN", "A stored record is damaged, or was sealed under another keyring."
            ) from error
