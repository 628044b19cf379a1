"""Ed25519 keys that sign under a domain.

Specification: RFC 8032 (Ed25519, pure); PKCS#8 with PBES2 (RFC 8018) for storage. A signature covers
``lp("concordat/v1", "signature", domain, message)``, so that a signature made for one purpose is worth
nothing for another.

Invariants:
    - A private key is never written unencrypted.
    - A public key of small order is refused: under such a key one signature fits many messages.
    - Verification raises; it has no return value that a caller could forget to look at.

Not protected: PBES2 as OpenSSL writes it stretches the password only lightly, so the password must be a
generated secret (32 random bytes in a file or a key store), not a word that a person remembers.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocol.canonical import VERSION, lp
from protocol.errors import ConfigurationError, ProtocolError, SignatureInvalid

MINIMUM_PASSWORD = 8
"""Bytes; a bound against slips, not a measure of strength."""

_P = 2**255 - 19
_Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER = frozenset({0, 1, _P - 1, _P, _P + 1, _Y8, _P - _Y8})
"""y coordinates, and their unreduced spellings, of the points of order 1, 2, 4 and 8."""


def signed_bytes(domain: str, message: bytes) -> bytes:
    """Return the bytes that a signature under a domain covers."""
    return lp(VERSION, "signature", domain, message)


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key.

    Attributes:
        raw: 32 bytes, RFC 8032 §5.1.5.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if not isinstance(self.raw, bytes) or len(self.raw) != 32:
            raise ProtocolError("KEY_MALFORMED", "A public key must have 32 bytes.")
        if int.from_bytes(self.raw, "little") & ((1 << 255) - 1) in _SMALL_ORDER:
            raise ProtocolError("KEY_WEAK", "A public key of small order binds nobody and is refused.")

    @classmethod
    def from_hex(cls, text: str) -> PublicKey:
        """Read 64 lower-case hexadecimal digits.

        Raises:
            ProtocolError: ``KEY_MALFORMED`` or ``KEY_WEAK``.
        """
        if not isinstance(text, str) or len(text) != 64 or set(text) - set("0123456789abcdef"):
            raise ProtocolError("KEY_MALFORMED", "A public key must be 64 lower-case hexadecimal digits.")
        return cls(bytes.fromhex(text))

    @property
    def hex(self) -> str:
        """The key as 64 hexadecimal digits."""
        return self.raw.hex()

    @property
    def fingerprint(self) -> str:
        """``SHA256:`` and the unpadded base64 digest, short enough to be read out over the telephone."""
        hashed = hashlib.sha256(lp(VERSION, "fingerprint", self.raw)).digest()
        return "SHA256:" + base64.b64encode(hashed).decode("ascii").rstrip("=")

    def verify(self, domain: str, message: bytes, signature: bytes) -> None:
        """Check a signature of this key over a message in a domain.

        Raises:
            SignatureInvalid: ``SIGNATURE_INVALID`` if it does not verify, whatever the reason.
        """
        try:
            key = Ed25519PublicKey.from_public_bytes(self.raw)
            key.verify(signature, signed_bytes(domain, message))
        except (InvalidSignature, ValueError, TypeError) as error:
            raise SignatureInvalid("SIGNATURE_INVALID", "A signature does not verify.") from error


class IdentityKey:
    """An institution's private signing key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"IdentityKey({self.public.fingerprint})"

    @classmethod
    def generate(cls) -> IdentityKey:
        """Draw a new key from the operating system's generator."""
        return cls(Ed25519PrivateKey.generate())

    @property
    def public(self) -> PublicKey:
        """The key that others verify with."""
        return PublicKey(self._key.public_key().public_bytes_raw())

    def sign(self, domain: str, message: bytes) -> bytes:
        """Return the 64-byte signature over a message in a domain (deterministic, RFC 8032 §5.1.6)."""
        return self._key.sign(signed_bytes(domain, message))

    def to_pem(self, password: bytes) -> bytes:
        """Return the key as encrypted PKCS#8.

        Raises:
            ConfigurationError: ``KEY_PASSWORD`` if the password is missing or shorter than 8 bytes.
        """
        if len(password) < MINIMUM_PASSWORD:
            raise ConfigurationError(
                "KEY_PASSWORD",
                f"A private key needs a password of at least {MINIMUM_PASSWORD} bytes.",
                "Generate one, for instance 32 random bytes, and keep it apart from the key.",
            )
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )

    @classmethod
    def from_pem(cls, data: bytes, password: bytes) -> IdentityKey:
        """Read an encrypted PKCS#8 key.

        Raises:
            ConfigurationError: ``KEY_UNREADABLE`` if the password is wrong, the file is not such a key, is of
                another algorithm, or lies unencrypted.
        """
        try:
            key = serialization.load_pem_private_key(data, password)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            # The library's text may quote the file, so it is kept out of the message.
            raise ConfigurationError(
                "KEY_UNREADABLE", "The identity key can't be read.", "Check its file and its password."
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigurationError("KEY_UNREADABLE", "The identity key is not an Ed25519 key.")
        return cls(key)
