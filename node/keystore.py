"""A party's keys on disk: made here, encrypted under the passphrase, never sent anywhere.

Four secrets, each for one purpose: the identity key (Ed25519, signs), the TLS key (P-256, opens connections to the
exchange), the Flower key (P-384, authenticates the SuperNode), the storage key (encrypts what the node keeps).
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import NameOID

from protocol.canonical import lp
from protocol.errors import ConfigurationError
from protocol.identity import IdentityKey

IDENTITY, TLS_KEY, TLS_CERTIFICATE, FLOWER = "identity.pem", "tls.key", "tls.crt", "flower.pem"


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


class Keystore:
    """The keys of one party in one directory."""

    def __init__(self, directory: Path, passphrase: bytes) -> None:
        self._directory, self._passphrase = directory, passphrase

    @classmethod
    def create(cls, directory: Path, passphrase: bytes) -> Keystore:
        """Make a party's keys.

        Raises:
            ConfigurationError: keys are there already; they are never overwritten.
        """
        if (directory / IDENTITY).exists():
            raise ConfigurationError(
                "KEYS_EXIST",
                f"{directory} holds keys already",
                "Remove them by hand if they are to be replaced.",
            )
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        store = cls(directory, passphrase)
        write_private(directory / TLS_KEY, _pem(ec.generate_private_key(ec.SECP256R1()), passphrase))
        write_private(directory / FLOWER, _pem(ec.generate_private_key(ec.SECP384R1()), passphrase))
        write_private(directory / IDENTITY, IdentityKey.generate().to_pem(passphrase))
        return store

    def identity(self) -> IdentityKey:
        """Load the identity key."""
        return IdentityKey.from_pem(self._read(IDENTITY), self._passphrase)

    def storage_key(self) -> bytes:
        """Derive the 32-byte key under which the node's own files are encrypted."""
        raw = serialization.load_pem_private_key(self._read(IDENTITY), self._passphrase).private_bytes(
            serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
        )
        return HKDF(hashes.SHA256(), 32, salt=None, info=lp("concordat/v1", "storage")).derive(raw)

    def flower_public(self) -> str:
        """Return the Flower key's public half as an OpenSSH line."""
        public = self._flower().public_key()
        encoded = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return encoded.decode()

    def flower_private_openssh(self) -> bytes:
        """Return the Flower key in the clear OpenSSH form that the SuperNode reads; keep it off the disk."""
        return self._flower().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )

    def certificate_request(self, name: str) -> bytes:
        """Return a signed request (RFC 2986, PEM) for a client certificate."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject)
        return request.sign(self._elliptic(TLS_KEY), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def save_certificate(self, certificate: bytes) -> None:
        """Keep the certificate that the authority issued, if it is for this key.

        Raises:
            ConfigurationError: the certificate is for another key.
        """
        loaded = x509.load_pem_x509_certificate(certificate)
        if loaded.public_key() != self._elliptic(TLS_KEY).public_key():
            raise ConfigurationError("CERTIFICATE_OTHER_KEY", "the certificate is for another key")
        write_private(self._directory / TLS_CERTIFICATE, certificate)

    def tls_context(self, authority: Path) -> ssl.SSLContext:
        """Return a TLS client context that trusts the consortium's authority alone and shows this party's name."""
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(authority))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(
            self._directory / TLS_CERTIFICATE, self._directory / TLS_KEY, lambda: self._passphrase
        )
        return context

    def _flower(self) -> ec.EllipticCurvePrivateKey:
        return self._elliptic(FLOWER)

    def _elliptic(self, name: str) -> ec.EllipticCurvePrivateKey:
        key = serialization.load_pem_private_key(self._read(name), self._passphrase)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    def _read(self, name: str) -> bytes:
        try:
            return (self._directory / name).read_bytes()
        except OSError as error:
            raise ConfigurationError(
                "KEY_UNREADABLE",
                f"{self._directory / name}: {error.strerror}",
                "`concordat node init` makes a node's keys.",
            ) from None


def _pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    )
