"""Founding a consortium: its authority, its registry key, its coordinator's own keys and certificates."""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from coordinator.authority import Authority, new_key
from coordinator.config import CoordinatorConfig
from node.keystore import Keystore, write_private
from protocol.errors import ConfigurationError
from protocol.identity import IdentityKey
from protocol.mailbox import COORDINATOR

AUTHORITY_CERTIFICATE = "pki/ca.crt"
AUTHORITY_KEY = "pki/ca.key"
SERVER_CERTIFICATE = "pki/server.crt"
SERVER_KEY = "pki/server.key"
EXCHANGE = "exchange"
"""Everything that the exchange's server reads and writes, so that it can run where nothing else is."""
EXCHANGE_CERTIFICATE = f"{EXCHANGE}/server.crt"
EXCHANGE_KEY = f"{EXCHANGE}/server.key"
EXCHANGE_AUTHORITY = f"{EXCHANGE}/ca.crt"
REGISTRY_KEY = "keys/registry.pem"
SUPEREXEC_SECRET = "secret/superexec"  # noqa: S105 - a path
OWN_KEYS = "keys"


def found(config: CoordinatorConfig) -> None:
    """Make every key of a new consortium.

    Raises:
        ConfigurationError: there is one already; keys are never overwritten.
    """
    if config.path(AUTHORITY_KEY).exists():
        raise ConfigurationError(
            "CONSORTIUM_EXISTS",
            f"{config.path()} holds the keys of a consortium already",
            "Use another data directory, or remove the keys by hand.",
        )
    passphrase = config.passphrase()
    authority = Authority.create(config.consortium)
    registry = IdentityKey.generate()
    own = Keystore.create(config.path(OWN_KEYS), passphrase)
    own.save_certificate(authority.issue_client(own.certificate_request(COORDINATOR), COORDINATOR))
    write_private(config.path(REGISTRY_KEY), registry.to_pem(passphrase))
    write_private(config.path(SUPEREXEC_SECRET), secrets.token_bytes(48))
    _server_certificate(config, authority, "coordinator", SERVER_CERTIFICATE, SERVER_KEY)
    _server_certificate(config, authority, "exchange", EXCHANGE_CERTIFICATE, EXCHANGE_KEY)
    write_private(config.path(EXCHANGE_AUTHORITY), authority.certificate_pem())
    write_private(config.path(AUTHORITY_CERTIFICATE), authority.certificate_pem())
    config.path(AUTHORITY_CERTIFICATE).chmod(0o644)
    write_private(config.path(AUTHORITY_KEY), authority.key_pem(passphrase))


def _server_certificate(
    config: CoordinatorConfig, authority: Authority, name: str, certificate_file: str, key_file: str
) -> None:
    key = new_key()
    certificate = authority.issue_server(key.public_key(), f"{config.consortium} {name}", config.listen.hosts)
    write_private(config.path(certificate_file), certificate + authority.certificate_pem())
    # NATS and Flower read a server's key from a file in the clear; it opens no door but their own.
    write_private(
        config.path(key_file),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def load_authority(config: CoordinatorConfig) -> Authority:
    """Load the consortium's certificate authority."""
    return Authority.load(
        _read(config.path(AUTHORITY_CERTIFICATE)), _read(config.path(AUTHORITY_KEY)), config.passphrase()
    )


def load_registry_key(config: CoordinatorConfig) -> IdentityKey:
    """Load the registry's signing key."""
    return IdentityKey.from_pem(_read(config.path(REGISTRY_KEY)), config.passphrase())


def load_keystore(config: CoordinatorConfig) -> Keystore:
    """Open the coordinator's own keys."""
    return Keystore(config.path(OWN_KEYS), config.passphrase())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            "KEY_UNREADABLE",
            f"{path}: {error.strerror}",
            "`concordat coordinator init` makes a consortium's keys.",
        ) from None
