"""The checks of ``concordat node doctor``. Each reads one thing and says what it found; none changes anything."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concordat.cli import place
from concordat.cli.output import explained, size
from protocol.errors import ConcordatError, ConfigurationError, ProtocolError, Unavailable

if TYPE_CHECKING:
    from node.config import NodeConfig
    from node.keystore import Keystore

PASS, FAIL, WARN, SKIP = "PASS", "FAIL", "WARN", "SKIP"
SKEW_SECONDS = 30.0
"""Leases bear two minutes; half of a minute leaves room."""
RENEW_DAYS = 30
LEAST_DISK, LITTLE_DISK = 1 << 30, 5 << 30
DIAL_SECONDS = 5


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    name: str
    state: str
    what: str
    fix: str = ""

    def line(self, width: int) -> str:
        """Return it for people."""
        fix = f"\n      {' ' * width}  fix: {self.fix}" if self.fix else ""
        return f"{self.state}  {self.name.ljust(width)}  {self.what}{fix}"


@dataclass
class Patient:
    """The node under examination; what a check found out serves the later ones."""

    config: NodeConfig
    keys: Keystore | None = None
    date: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Skipped(Exception):
    """A check can't be made because an earlier one failed."""


class Warned(Exception):
    """A check passed, and something ought to be done soon."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what, self.fix = what, fix


def examine(file: Path) -> Iterator[Finding]:
    """Make all checks of a node; without a readable configuration only the first."""
    try:
        config = place.load_node(file)
    except ConcordatError as error:
        yield Finding("configuration", FAIL, error.message, error.hint)
        return
    yield Finding("configuration", PASS, f"{config.node.name} ({config.node.role}), {file}")
    patient = Patient(config)
    for name, check in CHECKS:
        yield _made(name, check, patient)


def _made(name: str, check: Callable[[Patient], str], patient: Patient) -> Finding:
    try:
        return Finding(name, PASS, check(patient))
    except Skipped as reason:
        return Finding(name, SKIP, str(reason))
    except Warned as warning:
        return Finding(name, WARN, warning.what, warning.fix)
    except Exception as error:  # noqa: BLE001 - whatever keeps a check from passing is its finding
        told = explained(error)
        return Finding(name, FAIL, told.message, told.hint or "Look at docs/handbook/node.md.")


def passphrase(patient: Patient) -> str:
    """The passphrase's file is there and nobody else can read it."""
    patient.config.passphrase()
    return f"{patient.config.path(patient.config.node.passphrase_file)}, readable by its owner only"


def keys(patient: Patient) -> str:
    """All keys can be opened with the passphrase."""
    try:
        store = place.keys_of(patient.config)
    except ConcordatError:
        raise Skipped("no passphrase") from None
    try:
        identity = store.identity()
        store.flower_public()
        store.certificate_request(patient.config.node.name)
    except ValueError:
        raise ConfigurationError(
            "KEYS_LOCKED",
            "the passphrase doesn't open the keys",
            "Put back the passphrase under which the keys were made, or restore both from the same backup.",
        ) from None
    patient.keys = store
    return f"fingerprint {identity.public.fingerprint}"


def enrolment(patient: Patient) -> str:
    """The node belongs to a consortium."""
    joined = patient.config.joined()
    return f"{joined.name}, coordinator {joined.coordinator}, exchange {joined.exchange}"


def certificate(patient: Patient) -> str:
    """The certificate is of the consortium's authority, for this node, and not about to expire."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.x509.oid import NameOID

    joined = _joined(patient)
    renew = "Ask the coordinator's operator for a new invitation and enrol again."
    own = x509.load_pem_x509_certificate(patient.config.path("keys/tls.crt").read_bytes())
    authority = x509.load_pem_x509_certificate(patient.config.path(joined.authority).read_bytes())
    try:
        own.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        raise ConfigurationError(
            "CERTIFICATE_ALIEN", "not issued by the consortium's authority", renew
        ) from None
    names = [str(entry.value) for entry in own.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [patient.config.node.name]:
        raise ConfigurationError("CERTIFICATE_NAME", "the certificate is for another name", renew)
    now = datetime.now(UTC)
    if now < own.not_valid_before_utc:
        raise ConfigurationError("CERTIFICATE_EARLY", "not valid yet", "Look at this machine's clock.")
    days = (own.not_valid_after_utc - now).days
    if days < 0:
        raise ConfigurationError("CERTIFICATE_EXPIRED", f"expired {-days} days ago", renew)
    if days < RENEW_DAYS:
        raise Warned(f"valid for {days} days more", renew)
    return f"valid for {days} days more"


def directory(patient: Patient) -> str:
    """The registry's statements hold, agree with the pins, and name this node with its own key."""
    from node.members import Members

    _joined(patient)
    known = Members(patient.config).directory()
    own = known.get(patient.config.node.name)
    if own is None:
        raise ProtocolError("MEMBERSHIP_MISSING", "the directory doesn't name this node", "Enrol it again.")
    if patient.keys is not None and own.identity != patient.keys.identity().public:
        raise ProtocolError(
            "MEMBERSHIP_OTHER_KEY", "the registry states another key for this node", "Call the coordinator."
        )
    pinned = len(set(known) & set(patient.config.trust.pins))
    others = len(known) - 1
    days = min(int(party.valid_until - time.time()) // 86400 for party in known.values())
    if pinned < others:
        raise Warned(
            f"{others} other parties, {pinned} of them pinned: the registry's word is taken for the rest",
            "Compare fingerprints by another channel and add them under [trust.pins].",
        )
    return f"{others} other parties, all pinned; statements hold for {days} days more"


def table(patient: Patient) -> str:
    """The table keeps the data contract."""
    from node.table_source import TableSource

    if patient.config.node.role == "compute":
        raise Skipped("a compute party has no table")
    found = TableSource.from_config(patient.config).summary()
    return f"{found['file']}: {found['rows']:,} rows, {found['fields']} fields"


def database(patient: Patient) -> str:
    """The database answers and its schema is this release's."""
    import sqlalchemy as sa

    from node.store import MIGRATIONS, connect

    url = patient.config.database_url(patient.config.database.url)
    if url.startswith("sqlite") and not Path(url.removeprefix("sqlite:///")).exists():
        raise Skipped("not made yet; enrolment makes it")
    newest = max(path.name.split("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    engine = connect(url)
    try:
        with engine.connect() as db:
            there = sa.inspect(db).has_table("alembic_version")
            version = db.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() if there else ""
    finally:
        engine.dispose()
    if version != newest:
        raise ConfigurationError(
            "DATABASE_VERSION",
            f"schema {version or 'none'}, this release wants {newest}",
            "`concordat node run` brings an older schema up to date; a newer one needs the newer release.",
        )
    return f"{engine.dialect.name}, schema {version}"


def egress_log(patient: Patient) -> str:
    """The log of what left the building is whole."""
    from node.egress import read_head, verify

    if patient.keys is None:
        raise Skipped("no keys")
    try:
        store = place.store_of(patient.config)
    except ConfigurationError:
        raise Skipped("no database yet") from None
    head = read_head(patient.config.path("egress.head"))
    try:
        found = verify(
            store, patient.keys.identity().public, {} if head is None else {"the node's head file": head}
        )
    finally:
        store.engine.dispose()
    return f"{found.seq:,} records, chain and signatures whole"


def exchange(patient: Patient) -> str:
    """The exchange takes this node's certificate."""
    from node.exchange import dial

    joined = _joined(patient)
    if patient.keys is None:
        raise Skipped("no keys")
    tls = patient.keys.tls_context(patient.config.path(joined.authority))
    dial(f"tls://{joined.exchange}", tls, f"{patient.config.node.name} doctor", DIAL_SECONDS)
    return f"{joined.exchange} takes this node's certificate"


def edge(patient: Patient) -> str:
    """The coordinator's edge answers under the consortium's authority."""
    import ssl

    import httpx

    joined = _joined(patient)
    tls = ssl.create_default_context(cafile=str(patient.config.path(joined.authority)))
    try:
        with httpx.Client(verify=tls, timeout=DIAL_SECONDS, trust_env=False) as client:
            reply = client.get(f"https://{joined.coordinator}/health")
    except httpx.HTTPError as error:
        raise Unavailable(
            "COORDINATOR_UNREACHABLE",
            f"{joined.coordinator}: {type(error).__name__}",
            "Let this machine dial out to that address, and ask whether the coordinator runs.",
        ) from None
    patient.date = time.time()
    patient.facts["date"] = reply.headers.get("date", "")
    if reply.status_code != httpx.codes.OK:
        raise Unavailable("COORDINATOR_ILL", f"it answers {reply.status_code}", "Tell its operator.")
    return f"{joined.coordinator} answers"


def clock(patient: Patient) -> str:
    """The clock agrees with the coordinator's."""
    if patient.date is None or not patient.facts["date"]:
        raise Skipped("the coordinator doesn't tell its time")
    # A Date header has whole seconds, cut off: half of one is the middle of what it may mean.
    skew = patient.date - parsedate_to_datetime(patient.facts["date"]).timestamp() - 0.5
    if abs(skew) > SKEW_SECONDS:
        raise ConfigurationError(
            "CLOCK_SKEW",
            f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the coordinator's clock",
            "Set the clock by NTP; ask the coordinator's operator to do the same.",
        )
    return f"within {max(abs(skew), 1):.0f} s of the coordinator's"


def disk(patient: Patient) -> str:
    """There is room for models, logs and the vault."""
    place_ = patient.config.path()
    free = shutil.disk_usage(place_).free
    if free < LEAST_DISK:
        raise ConfigurationError("DISK_FULL", f"{size(free)} free at {place_}", "Make room, at least 5 GB.")
    if free < LITTLE_DISK:
        raise Warned(f"{size(free)} free at {place_}", "Make room, at least 5 GB.")
    return f"{size(free)} free at {place_}"


def socket(patient: Patient) -> str:
    """The daemon's socket has a path that the kernel takes."""
    from concordat.cli.node import supervisor_home

    supervisor_home(patient.config.path())
    return str(patient.config.socket())


def processes(patient: Patient) -> str:
    """The daemon answers, and Flower's processes live where the role has them."""
    import node.processes
    from concordat.cli.node import processes_of

    if patient.config.consortium is None:
        raise Skipped("the node is not enrolled")
    answer = place.ask_node(patient.config)
    states = processes_of(patient.config)
    expected = [process.name for process in node.processes.processes(patient.config, Path())]
    dead = sorted(name for name in expected[1:] if states.get(name) != "running")
    if dead:
        raise Unavailable(
            "PROCESS_DOWN",
            ", ".join(f"{name} is {states.get(name, 'not supervised')}" for name in dead),
            "Read its log in logs/; `concordat node run` runs them all.",
        )
    if not answer["exchange"]:
        raise Unavailable(
            "EXCHANGE_LOST", "the daemon has lost the exchange", "It reconnects by itself; wait."
        )
    return ", ".join([f"daemon {answer['state']}", *(f"{name} running" for name in expected[1:])])


def release(patient: Patient) -> str:
    """The installed release is the one that the open jobs name."""
    import json

    from node.flower.bundle import code_hash

    own = code_hash()
    try:
        store = place.store_of(patient.config)
    except ConfigurationError:
        return f"code {own[:16]}; no job names one yet"
    try:
        pending = [row for row in store.list_proposals() if row["state"] == "pending"]
    finally:
        store.engine.dispose()
    others = sum(json.loads(row["document"])["body"]["code"] != own for row in pending)
    if others:
        raise ConfigurationError(
            "CODE_DIFFERS",
            f"{others} of {len(pending)} jobs to decide name other code than the installed {own[:16]}",
            "Install the release that the consortium agreed on.",
        )
    return f"code {own[:16]}, as the {len(pending)} jobs to decide name" if pending else f"code {own[:16]}"


def _joined(patient: Patient) -> Any:
    if patient.config.consortium is None:
        raise Skipped("the node is not enrolled")
    return patient.config.consortium


CHECKS: tuple[tuple[str, Callable[[Patient], str]], ...] = (
    ("passphrase", passphrase),
    ("keys", keys),
    ("enrolment", enrolment),
    ("certificate", certificate),
    ("directory and pins", directory),
    ("table", table),
    ("database", database),
    ("egress log", egress_log),
    ("coordinator", edge),
    ("clock", clock),
    ("exchange", exchange),
    ("disk", disk),
    ("sockets", socket),
    ("processes", processes),
    ("release", release),
)
