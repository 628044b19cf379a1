"""The consortium's certificate authority: who may open a TLS connection under which name.

Two keys make a consortium: this authority's key signs TLS certificates (X.509, RFC 5280), the registry's
Ed25519 key signs what a name *is* (its role and its identity key, ``protocol.identity``). TLS names decide
which subjects and buckets of the exchange a party may touch; nothing else rests on them, since every payload
is signed by the identity key too.

Not protected: whoever holds this key can open connections under any name. It can't sign as a party.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocol.errors import ConfigurationError

AUTHORITY_DAYS = 3650
LEAF_DAYS = 397


class Authority:
    """A certificate authority over P-256 (the curve that every TLS stack of the product speaks)."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key

    @classmethod
    def create(cls, consortium: str) -> Authority:
        """Make a new authority for a consortium."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{consortium} consortium authority")])
        builder = (
            _builder(name, name, key.public_key(), AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, certificate: bytes, key: bytes, password: bytes) -> Authority:
        """Load an authority from PEM; the key is encrypted under ``password``."""
        private = serialization.load_pem_private_key(key, password)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ConfigurationError("CA_KEY_TYPE", "the authority's key is not an elliptic-curve key")
        return cls(x509.load_pem_x509_certificate(certificate), private)

    def certificate_pem(self) -> bytes:
        """Return the authority's certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self, password: bytes) -> bytes:
        """Return the authority's key as PKCS#8 PEM, encrypted."""
        return key_to_pem(self._key, password)

    def issue_server(self, public: ec.EllipticCurvePublicKey, name: str, hosts: Sequence[str]) -> bytes:
        """Issue a server certificate for host names and addresses; returns PEM."""
        names = [_general_name(host) for host in hosts]
        return self._issue(
            public, name, [ExtendedKeyUsageOID.SERVER_AUTH], x509.SubjectAlternativeName(names)
        )

    def issue_client(self, request: bytes, name: str) -> bytes:
        """Issue a client certificate for a certificate request (RFC 2986); returns PEM.

        The subject is the name that the registry admitted, whatever the request says.

        Raises:
            ConfigurationError: the request's signature does not verify, or its key is of another kind.
        """
        try:
            csr = x509.load_pem_x509_csr(request)
        except ValueError:
            raise ConfigurationError("CSR_UNREADABLE", "the certificate request can't be read") from None
        public = csr.public_key()
        if not csr.is_signature_valid or not isinstance(public, ec.EllipticCurvePublicKey):
            raise ConfigurationError("CSR_INVALID", "the certificate request is not signed by a P-256 key")
        return self._issue(public, name, [ExtendedKeyUsageOID.CLIENT_AUTH], None)

    def _issue(
        self,
        public: ec.EllipticCurvePublicKey,
        name: str,
        usages: Sequence[x509.ObjectIdentifier],
        names: x509.SubjectAlternativeName | None,
    ) -> bytes:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer_key = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            _builder(subject, self.certificate.subject, public, LEAF_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), critical=False
            )
        )
        if names is not None:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key for TLS."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: ec.EllipticCurvePrivateKey, password: bytes) -> bytes:
    """Return a key as encrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        # A node whose clock runs a few minutes behind must still accept a certificate made just now.
        .not_valid_before(now - dt.timedelta(minutes=10))
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
