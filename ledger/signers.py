"""Keys that sign for the ledger, and the registry's certificates over them.

Specification: a key is 20 bytes (an account, or an EIP-1271 contract) or an ERC-7913 key (20 bytes of an
allowed verifier, then the key). A certificate is an EIP-712 statement of the registry over role, key bytes,
custodian class, key-set hash and expiry. P-256 signatures are r ‖ s with s in the lower half.

What each party learns: a key per receivable, certified in batches, shows "a bank", never which one.
Not protected: a key that is used twice links its uses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Protocol, runtime_checkable

from coincurve import PrivateKey
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from eth_utils.crypto import keccak

from ledger.commitments import ZERO, key_id
from ledger.eip712 import Domain, Intent, encode_word

_CERTIFICATE_TYPE = "Certificate(uint8 role,bytes key,uint8 custodian,bytes32 keySet,uint64 expiry)"
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Role(IntFlag):
    """What a key may do; a certificate names exactly one."""

    SUPPLIER = 1
    OBLIGOR = 2
    BANK = 4
    MEMBER = 8


class Custodian(IntEnum):
    """Who keeps a key. A supplier's key kept by a bank is refused."""

    SELF = 0
    NEUTRAL = 1
    BANK = 2


class Key(Protocol):
    """Anything that signs a digest under key bytes."""

    @property
    def key(self) -> bytes:
        """The key's bytes, as certificates name them."""

    def sign(self, digest: bytes) -> bytes:
        """Return the signature over 32 bytes."""


@runtime_checkable
class PreimageKey(Protocol):
    """A key elsewhere that hashes by itself what it signs, so that it can read it."""

    def sign_preimage(self, preimage: bytes) -> bytes:
        """Return the signature over keccak-256 of the bytes."""


@dataclass(frozen=True, slots=True)
class AccountKey:
    """A secp256k1 key; its bytes are the account's address."""

    secret: PrivateKey = field(repr=False)

    @classmethod
    def new(cls) -> AccountKey:
        """Return a fresh key from the system's generator."""
        return cls(PrivateKey())

    @property
    def key(self) -> bytes:
        """The 20-byte address."""
        return keccak(self.secret.public_key.format(compressed=False)[1:])[12:]

    def sign(self, digest: bytes) -> bytes:
        """Return r ‖ s ‖ v, 65 bytes."""
        raw = self.secret.sign_recoverable(digest, hasher=None)
        return raw[:64] + bytes([raw[64] + 27])


@dataclass(frozen=True, slots=True)
class P256Key:
    """A P-256 key behind an ERC-7913 verifier (a passkey's or a token's curve)."""

    secret: ec.EllipticCurvePrivateKey = field(repr=False)
    verifier: bytes

    @classmethod
    def new(cls, verifier: bytes) -> P256Key:
        """Return a fresh key for a verifier contract of 20 bytes."""
        return cls(ec.generate_private_key(ec.SECP256R1()), verifier)

    @property
    def key(self) -> bytes:
        """Verifier ‖ x ‖ y, 84 bytes."""
        numbers = self.secret.public_key().public_numbers()
        return self.verifier + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")

    def sign(self, digest: bytes) -> bytes:
        """Return r ‖ s, 64 bytes, s in the lower half."""
        r, s = decode_dss_signature(self.secret.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
        return r.to_bytes(32, "big") + min(s, _P256_ORDER - s).to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class Certificate:
    """The registry's statement over one key.

    Args:
        role: what the key may do.
        key: the key's bytes.
        custodian: who keeps it.
        key_set: hash of the 2-of-n set that releases its liens; zeros for none.
        expiry: unix seconds.
        signature: the registry's.
    """

    role: Role
    key: bytes
    custodian: Custodian
    key_set: bytes
    expiry: int
    signature: bytes = b""

    def digest(self, domain: Domain) -> bytes:
        """Return the 32 bytes that the registry signs."""
        return domain.digest(
            keccak(
                keccak(text=_CERTIFICATE_TYPE)
                + encode_word("uint8", int(self.role))
                + keccak(self.key)
                + encode_word("uint8", int(self.custodian))
                + encode_word("bytes32", self.key_set)
                + encode_word("uint64", self.expiry)
            )
        )


def certify(
    registry: Key,
    domain: Domain,
    role: Role,
    key: bytes,
    expiry: int,
    custodian: Custodian = Custodian.SELF,
    key_set: bytes = ZERO,
) -> Certificate:
    """Return a certificate of the registry over one key."""
    unsigned = Certificate(role, key, custodian, key_set, expiry)
    signature = registry.sign(unsigned.digest(domain))
    return Certificate(role, key, custodian, key_set, expiry, signature)


SignerTuple = tuple[int, int, int, bytes, bytes, bytes, bytes]
HolderTuple = tuple[bytes, bytes, list[bytes], list[SignerTuple]]


@dataclass(frozen=True, slots=True)
class Party:
    """A key with its certificate."""

    signer: Key
    certificate: Certificate

    @property
    def key_id(self) -> bytes:
        """The key's 32-byte name."""
        return key_id(self.certificate.key)

    def sign(self, domain: Domain, statement: Intent) -> SignerTuple:
        """Return certificate and signature over a statement, as the ABI takes them."""
        if isinstance(self.signer, PreimageKey):
            preimage = domain.preimage(statement.struct_hash())
            return self._with_certificate(self.signer.sign_preimage(preimage))
        return self.sign_digest(domain.digest(statement.struct_hash()))

    def sign_digest(self, digest: bytes) -> SignerTuple:
        """Return certificate and signature over a digest, as the ABI takes them."""
        return self._with_certificate(self.signer.sign(digest))

    def _with_certificate(self, signature: bytes) -> SignerTuple:
        c = self.certificate
        return (int(c.role), int(c.custodian), c.expiry, c.key_set, c.key, c.signature, signature)


def holder_auth(
    lien_id: bytes, holder: bytes, signatures: Iterable[SignerTuple], key_set: Iterable[bytes] = ()
) -> HolderTuple:
    """Return the consent of a lien's holder, as the ABI takes it.

    Args:
        lien_id: the lien.
        holder: key id of the holder on record.
        signatures: one, or two of the key set; sorted here by key id, as the contract wants them.
        key_set: key ids of the set, in the order whose hash the certificate names; empty for none.
    """
    ordered = sorted(signatures, key=lambda one: key_id(one[4]))
    return (lien_id, holder, list(key_set), ordered)


def council_signatures(keys: Iterable[Key], domain: Domain, statement: Intent) -> list[tuple[bytes, bytes]]:
    """Return the council's signatures over a statement, in the order the contract wants."""
    digest = domain.digest(statement.struct_hash())
    return [(one.key, one.sign(digest)) for one in sorted(keys, key=lambda one: key_id(one.key))]
