"""Sealing of payloads for one recipient.

Specification: RFC 9180 HPKE, base mode, single shot, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
ChaCha20Poly1305. Sealed bytes: version 1 (1 byte) ‖ encapsulated key (32) ‖ ciphertext ‖ tag (16). The
library's public interface takes no associated data, so ``aad`` goes into HPKE's ``info`` behind a length
prefix: ``lp("concordat/v1", "seal", info, aad)``. Since info enters the key schedule (RFC 9180 §5.1),
another aad gives another key, and opening fails.

Invariants:
    - What was sealed for one key, info and aad opens under no other.
    - A public key that gives the all-zero shared secret is refused (RFC 9180 §7.1.4).

What each party learns: relays see the length. Not protected: the sender is *not* authenticated here (the
envelope around does that); whoever gets the private key later opens what was recorded, hence one key per job,
signed by the identity, erased at the job's end.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from protocol.canonical import VERSION as SCHEME
from protocol.canonical import lp
from protocol.errors import ProtocolError

VERSION = b"\x01"
OVERHEAD = 1 + 32 + 16
"""Bytes by which sealed data is longer."""

SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def _bound(info: bytes, aad: bytes) -> bytes:
    return lp(SCHEME, "seal", info, aad)


def seal(public: bytes, data: bytes, *, info: bytes, aad: bytes) -> bytes:
    """Seal data for the holder of a key.

    Args:
        public: the recipient's X25519 key, 32 bytes.
        data: what to seal.
        info: what the message is for; both sides must name the same.
        aad: data that is not secret but must not change, such as the envelope's header.

    Raises:
        ProtocolError: ``SEALING_KEY`` if the key is malformed or of small order.
    """
    try:
        return VERSION + SUITE.encrypt(
            data, X25519PublicKey.from_public_bytes(public), info=_bound(info, aad)
        )
    except (ValueError, TypeError) as error:
        raise ProtocolError("SEALING_KEY", "A sealing key is malformed or of small order.") from error


class SealingKey:
    """A key that opens what was sealed for it; one per job."""

    def __init__(self, key: X25519PrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"SealingKey({self.public.hex()[:16]}…)"

    @classmethod
    def generate(cls) -> SealingKey:
        """Draw a new key from the operating system's generator."""
        return cls(X25519PrivateKey.generate())

    @property
    def public(self) -> bytes:
        """The 32 bytes that others seal for."""
        return self._key.public_key().public_bytes_raw()

    def to_bytes(self) -> bytes:
        """Return the private key; the caller stores it encrypted and erases it at the job's end."""
        return self._key.private_bytes_raw()

    @classmethod
    def from_bytes(cls, data: bytes) -> SealingKey:
        """Restore a key.

        Raises:
            ProtocolError: ``SEALING_KEY`` if it has not 32 bytes.
        """
        try:
            return cls(X25519PrivateKey.from_private_bytes(data))
        except (ValueError, TypeError) as error:
            raise ProtocolError("SEALING_KEY", "A private sealing key must have 32 bytes.") from error

    def open(self, data: bytes, *, info: bytes, aad: bytes) -> bytes:
        """Open sealed data.

        Raises:
            ProtocolError: ``SEALING_VERSION``, or ``SEALING_OPEN`` for another key, info or aad, a changed or
                missing byte; which of them is not told.
        """
        if len(data) < OVERHEAD:
            raise ProtocolError("SEALING_OPEN", "A sealed payload can't be opened.")
        if data[:1] != VERSION:
            raise ProtocolError("SEALING_VERSION", "A sealed payload has an unknown version.")
        try:
            return SUITE.decrypt(data[1:], self._key, info=_bound(info, aad))
        except (InvalidTag, ValueError, TypeError) as error:
            raise ProtocolError("SEALING_OPEN", "A sealed payload can't be opened.") from error
