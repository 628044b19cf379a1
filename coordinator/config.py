"""The coordinator's configuration: one TOML file, described key by key in ``docs/handbook/coordinator.md``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from node.config import SOCKET_PATH_LIMIT, Address, read_passphrase
from protocol.errors import ConfigurationError
from protocol.settings import Section, parse

CONFIG_VARIABLE = "CONCORDAT_COORDINATOR"
"""Environment variable that tells the ServerApp, which Flower starts, where the configuration is."""


class CoordinatorSection(Section):
    """The consortium and where its coordinator keeps things."""

    consortium: str = Field(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]+$")
    data_dir: Path = Path()
    passphrase_file: Path = Path("secret/passphrase")


class ListenSection(Section):
    """Addresses: ``public`` and ``exchange`` are reachable from outside, the others from this machine only."""

    public: Address = "127.0.0.1:7443"
    exchange: Address = "127.0.0.1:7422"
    superlink: Address = "127.0.0.1:7444"
    # Under which names and addresses institutions reach the coordinator; they stand in its certificate.
    hosts: list[str] = Field(default_factory=lambda: ["127.0.0.1", "localhost"], min_length=1)
    # What institutions are told to dial, where it isn't the listening address itself.
    public_address: Address | None = None
    exchange_address: Address | None = None
    # Where the coordinator itself reaches the exchange, where its server runs in another container.
    exchange_dial: Address | None = None
    # Where the exchange's server answers health checks; keep it on loopback, it tells who is connected.
    exchange_monitor: Address | None = None


class DatabaseSection(Section):
    """The registry's database and the store of durable steps."""

    url: str = "sqlite:///coordinator.db"
    steps_url: str = "sqlite:///steps.db"


class JobsSection(Section):
    """How jobs are run."""

    poll_seconds: float = Field(default=0.3, ge=0.05, le=10)
    # A run whose ServerApp dies is started again this often before the job fails.
    resumes: int = Field(default=3, ge=0, le=20)
    approval_seconds: int = Field(default=7 * 86400, ge=5)


class CoordinatorConfig(Section):
    """The whole file."""

    coordinator: CoordinatorSection
    listen: ListenSection = ListenSection()
    database: DatabaseSection = DatabaseSection()
    jobs: JobsSection = JobsSection()
    base: Path = Field(default=Path(), exclude=True)
    source: Path = Field(default=Path(), exclude=True)

    @property
    def consortium(self) -> str:
        """Name of the consortium."""
        return self.coordinator.consortium

    def path(self, *parts: str | Path) -> Path:
        """Return a path below the data directory."""
        return (self.base / self.coordinator.data_dir).joinpath(*parts)

    def database_url(self, url: str) -> str:
        """Return a database URL with a relative SQLite path anchored in the data directory."""
        prefix = "sqlite:///"
        if url.startswith(prefix) and not url.startswith(prefix + "/"):
            return prefix + str(self.path(url.removeprefix(prefix)).resolve())
        return url

    def operator_socket(self) -> Path:
        """Return the path of the operators' Unix socket: who can open it may act as operator.

        Raises:
            ConfigurationError: the path is longer than the kernel allows.
        """
        path = self.path("run", "operator.sock").resolve()
        if len(str(path)) > SOCKET_PATH_LIMIT:
            raise ConfigurationError(
                "SOCKET_PATH_LONG",
                f"{path} is too long for a Unix socket",
                "Use a data directory with a shorter path.",
            )
        return path

    def passphrase(self) -> bytes:
        """Read the passphrase under which the coordinator's keys lie on disk."""
        return read_passphrase(self.path(self.coordinator.passphrase_file))

    def public_address(self) -> str:
        """Return what institutions dial for enrolment and Flower."""
        return self.listen.public_address or self.listen.public

    def exchange_dial(self) -> str:
        """Return what the coordinator itself dials for the exchange; a wildcard stands for this machine."""
        if self.listen.exchange_dial is not None:
            return self.listen.exchange_dial
        host, _, port = self.listen.exchange.rpartition(":")
        return f"127.0.0.1:{port}" if host == "0.0.0.0" else self.listen.exchange  # noqa: S104 - compared, not bound

    def exchange_address(self) -> str:
        """Return what institutions dial for the exchange."""
        return self.listen.exchange_address or self.listen.exchange


def load(path: Path) -> CoordinatorConfig:
    """Read the coordinator's configuration file.

    Raises:
        ConfigurationError: it can't be read or doesn't hold what it should.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError(
            "CONFIG_UNREADABLE", f"{path}: {reason}", "`concordat coordinator init` makes a new one."
        ) from None
    config = parse(text, CoordinatorConfig, str(path))
    return config.model_copy(update={"base": path.parent.resolve(), "source": path.resolve()})
