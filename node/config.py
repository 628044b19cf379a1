"""A node's configuration: one TOML file, described key by key in ``docs/handbook/node.md``."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from protocol.errors import ConfigurationError
from protocol.settings import Section, parse

NAME = re.compile(r"[a-z][a-z0-9-]{1,39}")
MEMBERSHIP = "consortium/membership.toml"
"""Where the section [consortium] lies when the configuration itself is mounted read-only."""
# The kernel allows 108 bytes for the path of a Unix socket.
SOCKET_PATH_LIMIT = 100


def _address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("must be host:port, such as 127.0.0.1:7443")
    return value


Address = Annotated[str, AfterValidator(_address)]


class NodeSection(Section):
    """Who this node is and where it keeps things."""

    name: str = Field(pattern=f"^{NAME.pattern}$")
    role: Literal["bank", "e-commerce", "government", "compute"]
    data_dir: Path = Path()
    passphrase_file: Path = Path("secret/passphrase")


class ConsortiumSection(Section):
    """The consortium that the node belongs to; `concordat node enroll` fills it from the invitation."""

    name: str
    coordinator: Address
    exchange: Address
    authority: Path = Path("consortium/ca.crt")
    registry_key: str = Field(pattern="^[0-9a-f]{64}$")


class Membership(Section):
    """The file beside a read-only configuration."""

    consortium: ConsortiumSection


class DatabaseSection(Section):
    """The node's own database and the store of its durable steps."""

    url: str = "sqlite:///node.db"
    steps_url: str = "sqlite:///steps.db"


class FlowerSection(Section):
    """The node's Flower runtime, which listens on loopback only."""

    runtime: Address = "127.0.0.1:7501"
    poll_seconds: float = Field(default=0.5, ge=0.05, le=10)


class DataSection(Section):
    """The institution's own table, and how its columns map to the data contract's fields."""

    contract: Path = Path("data/contract.json")
    file: Path
    id: str
    label: str | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    consents: Path | None = None


class AutoApprove(Section):
    """Limits within which jobs are approved without asking; every limit must hold."""

    purposes: list[str] = Field(default_factory=lambda: ["train"])
    releases: tuple[Literal["none", "dp"], ...] = ("dp",)
    max_epsilon: float = Field(default=0.0, ge=0)
    max_partner_epsilon: float = Field(default=0.0, ge=0)
    min_banks: int = Field(default=3, ge=3)


class ApprovalSection(Section):
    """How this institution decides about jobs."""

    approver: str = ""
    # Releases to partners without noise: for tests on made-up data only.
    exact_releases: bool = False
    auto_approve: AutoApprove | None = None


class PrivacySection(Section):
    """What all releases to one data partner may cost together, per data contract."""

    epsilon: float = Field(default=4.0, gt=0, le=100)
    delta: float = Field(default=1e-5, gt=0, lt=1e-2)


class PartnerSection(Section):
    """How a data partner serves banks."""

    quota: int = Field(default=2_000_000, ge=1)


class TrustSection(Section):
    """Fingerprints of other parties' identity keys, exchanged out of band."""

    pins: dict[str, str] = Field(default_factory=dict)
    accept_registry: bool = False


class NodeConfig(Section):
    """The whole file."""

    node: NodeSection
    consortium: ConsortiumSection | None = None
    database: DatabaseSection = DatabaseSection()
    flower: FlowerSection = FlowerSection()
    data: DataSection | None = None
    approval: ApprovalSection = ApprovalSection()
    trust: TrustSection = TrustSection()
    privacy: PrivacySection = PrivacySection()
    partner: PartnerSection = PartnerSection()
    # The directory of the file itself: what relative paths are relative to.
    base: Path = Field(default=Path(), exclude=True)

    def path(self, *parts: str | Path) -> Path:
        """Return a path below the node's data directory (absolute parts stay as they are)."""
        return (self.base / self.node.data_dir).joinpath(*parts)

    def database_url(self, url: str) -> str:
        """Return a database URL with a relative SQLite path anchored in the data directory."""
        prefix = "sqlite:///"
        if url.startswith(prefix) and not url.startswith(prefix + "/"):
            return prefix + str(self.path(url.removeprefix(prefix)).resolve())
        return url

    def socket(self) -> Path:
        """Return the path of the daemon's Unix socket."""
        path = self.path("run", "daemon.sock").resolve()
        if len(str(path)) <= SOCKET_PATH_LIMIT:
            return path
        digest = hashlib.sha256(str(path).encode()).hexdigest()[:24]
        return Path(tempfile.gettempdir()) / f"concordat-{os.getuid()}" / f"{digest}.sock"

    def passphrase(self) -> bytes:
        """Read the passphrase under which the node's keys lie on disk.

        Raises:
            ConfigurationError: the file is missing, empty or readable by others.
        """
        path = self.path(self.node.passphrase_file)
        return read_passphrase(path)

    def joined(self) -> ConsortiumSection:
        """Return the consortium's section.

        Raises:
            ConfigurationError: the node is not enrolled yet.
        """
        if self.consortium is None:
            raise ConfigurationError(
                "NODE_NOT_ENROLLED",
                f"{self.node.name} belongs to no consortium yet",
                "Ask the coordinator's operator for an invitation and run `concordat node enroll`.",
            )
        return self.consortium


def read_passphrase(path: Path) -> bytes:
    """Read a passphrase file.

    Raises:
        ConfigurationError: the file is missing, empty or readable by others.
    """
    try:
        mode = path.stat().st_mode
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(
            "PASSPHRASE_UNREADABLE", f"{path}: {error.strerror}", "Set `passphrase_file` to a readable file."
        ) from None
    if mode & 0o077:
        raise ConfigurationError("PASSPHRASE_EXPOSED", f"{path} can be read by others", "chmod 600 it.")
    if len(secret) < 16:
        raise ConfigurationError("PASSPHRASE_SHORT", f"{path} holds fewer than 16 characters")
    return secret


def load(path: Path) -> NodeConfig:
    """Read a node's configuration file.

    Raises:
        ConfigurationError: it can't be read or doesn't hold what it should.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError(
            "CONFIG_UNREADABLE", f"{path}: {reason}", "`concordat node init` makes a new one."
        ) from None
    config = parse(text, NodeConfig, str(path)).model_copy(update={"base": path.parent.resolve()})
    beside = config.path(MEMBERSHIP)
    if config.consortium is None and beside.exists():
        joined = parse(beside.read_text("utf-8"), Membership, str(beside)).consortium
        return config.model_copy(update={"consortium": joined})
    return config
