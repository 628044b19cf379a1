"""A ledger service's configuration: one TOML file, described key by key in ``docs/handbook/ledger.md``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from protocol.errors import ConfigurationError
from protocol.settings import Section, parse

NAME = r"^[a-z][a-z0-9-]{1,39}$"


def _url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return value.rstrip("/")


Url = Annotated[str, AfterValidator(_url)]


class InstitutionSection(Section):
    """Who this is, and what it may sign as."""

    name: str = Field(pattern=NAME)
    title: str = ""
    roles: list[Literal["supplier", "obligor", "bank", "member"]]


class ChainSection(Section):
    """The chain: the embedded one with the own member's replica, or validators behind an own node."""

    kind: Literal["embedded", "validators"] = "embedded"
    genesis: Path | None = None
    gateway: Url = ""
    member: Url = ""
    node: Url = ""
    depth: int = Field(default=1, ge=0, le=1_000)
    max_age: int = Field(default=60, ge=1, le=3_600)
    chain_id: int = 0
    consortium: str = ""
    contract: str = ""


class ListenSection(Section):
    """Where the service listens; beyond loopback only with mutual TLS."""

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65_535)
    certificate: Path | None = None
    key: Path | None = None
    clients: Path | None = None
    names: list[str] = Field(default_factory=list)


class KeysSection(Section):
    """The keyring and its certificates; or a signing service that has the keys."""

    folder: Path = Path("keys")
    certificates: Path = Path("certificates.json")
    web3signer: Url = ""
    sender: str = ""


class TlsSection(Section):
    """With what this service calls others."""

    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class TagSection(Section):
    """The keeper of the tag key: its name among the peers, or this service itself."""

    keeper: str
    public_keys: dict[str, str] = Field(default_factory=dict)
    seed_file: Path | None = None
    daily_points: int = Field(default=10_000, ge=1)


class PeerSection(Section):
    """Another institution's service."""

    url: Url
    token_file: Path
    roles: list[str] = Field(default_factory=list)
    title: str = ""


class WebhookSection(Section):
    """An address that is told of state changes."""

    url: Url
    secret_file: Path
    events: list[str] = Field(default_factory=list)


class ServiceConfig(Section):
    """The whole file."""

    institution: InstitutionSection
    chain: ChainSection
    tags: TagSection
    listen: ListenSection = ListenSection()
    keys: KeysSection = KeysSection()
    tls: TlsSection = TlsSection()
    database: str = "sqlite:///service.sqlite"
    outbox: str = "sqlite:///outbox.sqlite"
    operator_token_file: Path = Path("operator.token")
    anchoring: str = ""
    peers: dict[str, PeerSection] = Field(default_factory=dict)
    webhooks: list[WebhookSection] = Field(default_factory=list)
    # The directory of the file itself: what relative paths are relative to.
    base: Path = Field(default=Path(), exclude=True)

    def path(self, path: Path) -> Path:
        """Return a path below the configuration's directory (absolute ones stay as they are)."""
        return self.base / path

    def database_url(self, url: str) -> str:
        """Return a database URL with a relative SQLite path anchored in the configuration's directory."""
        prefix = "sqlite:///"
        if url.startswith(prefix) and not url.startswith(prefix + "/"):
            return prefix + str((self.base / url.removeprefix(prefix)).resolve())
        return url

    def secret(self, path: Path) -> str:
        """Read a token or secret.

        Raises:
            ConfigurationError: ``SECRET_UNREADABLE``, ``SECRET_EXPOSED``, ``SECRET_SHORT``.
        """
        full = self.path(path)
        try:
            mode, found = full.stat().st_mode, full.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigurationError(
                "SECRET_UNREADABLE", f"{full} can't be read.", "Look at the path."
            ) from None
        if mode & 0o077:
            raise ConfigurationError("SECRET_EXPOSED", f"{full} can be read by others.", "chmod 600 it.")
        if len(found) < 32:
            raise ConfigurationError("SECRET_SHORT", f"{full} holds fewer than 32 characters.")
        return found


def load(path: Path) -> ServiceConfig:
    """Read a service's configuration.

    Raises:
        ConfigurationError: it can't be read or does not hold what it should.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError(
            "CONFIG_UNREADABLE", f"{path}: {reason}", "docs/handbook/ledger.md shows one."
        ) from None
    return parse(text, ServiceConfig, str(path)).model_copy(update={"base": path.parent.resolve()})
