"""A job at one node: its keys, its durable steps, its messages over the exchange.

Each stage that a Flower message asks for (session, a round, the end) runs as a durable workflow: after a crash the
daemon's next start goes on where it stopped. The store of steps holds digests only; bytes lie in the vault.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from dbos import DBOS

from node.door import Door
from node.exchange import Exchange
from node.role import Job
from node.store import Store
from node.vault import Vault
from protocol import document
from protocol.envelope import Envelope, ReplayGuard, pack, unpack
from protocol.errors import JobVoid, ProtocolError, Replayed
from protocol.identity import Directory, IdentityKey, PublicKey
from protocol.job import Manifest
from protocol.mailbox import object_name
from protocol.masking import MaskKey
from protocol.sealing import SealingKey

log = logging.getLogger(__name__)
KEYS = "keys"


@dataclass
class Lease:
    """What the coordinator last said about a job: whether it goes on, and which generation of it."""

    generation: int
    cancelled: bool
    seen: float


@dataclass
class Leases:
    """The leases of all jobs, by proposal."""

    patience: float = 45.0
    _known: dict[str, Lease] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def renew(self, proposal: str, generation: int, cancelled: bool) -> None:
        """Take note of what the coordinator says."""
        with self._lock:
            self._known[proposal] = Lease(generation, cancelled, time.monotonic())

    def check(self, proposal: str, generation: int, since: float) -> None:
        """Return if the job may go on.

        Args:
            proposal: the job's proposal.
            generation: the generation that asks.
            since: ``time.monotonic()`` at which its work began.

        Raises:
            JobVoid: it was cancelled, a newer session has opened, or nobody renews its lease.
        """
        with self._lock:
            lease = self._known.get(proposal)
        if lease is not None and lease.cancelled:
            raise JobVoid("JOB_CANCELLED", "the job was cancelled")
        if lease is not None and lease.generation > generation:
            raise JobVoid("SESSION_SUPERSEDED", "a newer session of the job has opened")
        seen = since if lease is None else max(since, lease.seen)
        if time.monotonic() - seen > self.patience:
            raise JobVoid("LEASE_LOST", "the coordinator no longer renews the job's lease")


def save_keys(vault: Vault, job: str, mask: MaskKey, seal: SealingKey, enlistment: dict[str, Any]) -> None:
    """Keep a party's keys for a job."""
    keys = {"mask": mask.to_bytes().hex(), "seal": seal.to_bytes().hex(), "enlistment": enlistment}
    vault.put(job, KEYS, json.dumps(keys).encode())


def load_keys(vault: Vault, job: str) -> tuple[MaskKey, SealingKey, dict[str, Any]]:
    """Return a party's keys for a job and its signed enlistment.

    Raises:
        JobVoid: they were erased, or never made.
    """
    stored = vault.get(job, KEYS)
    if stored is None:
        raise JobVoid(
            "JOB_KEYS_GONE", "this party holds no keys for the job", "It has ended or was never joined."
        )
    keys = json.loads(stored)
    return (
        MaskKey.from_bytes(bytes.fromhex(keys["mask"])),
        SealingKey.from_bytes(bytes.fromhex(keys["seal"])),
        keys["enlistment"],
    )


@dataclass(frozen=True)
class Parts:
    """What a session needs of the node around it."""

    party: str
    key: IdentityKey
    directory: Callable[[], Directory]
    store: Store
    vault: Vault
    door: Door
    exchange: Exchange
    leases: Leases
    notes: Callable[[str, str, dict[str, Any]], None]


def open_job(parts: Parts, job: str, roster: list[str], attempt: int, opened: dict[str, int]) -> Job:
    """Return a job as this party sees it, from what the node has kept.

    Raises:
        JobVoid: the node holds no such job.
    """
    row = parts.store.job(job)
    if row is None:
        raise JobVoid("JOB_UNKNOWN", "this party has not joined the job")
    manifest = Manifest.parse(json.loads(row["manifest"]))
    mask, seal, _ = load_keys(parts.vault, job)
    return Job(
        id=job,
        manifest=manifest,
        party=parts.party,
        roster=manifest.roster(attempt, roster),
        mask_key=mask,
        sealing_key=seal,
        opened=opened,
    )


class DurableChannel:
    """The channel of a role in a daemon (``node.role.Channel``); lives within one durable workflow."""

    def __init__(self, parts: Parts, job: Job, generation: int, first_sequence: int, seconds: float) -> None:
        self._parts, self._job, self._generation = parts, job, generation
        self._first = first_sequence
        self._began = time.monotonic()
        self._deadline = self._began + seconds

    def once(self, name: str, make: Callable[[], bytes]) -> bytes:
        """See ``node.role.Channel``."""
        vault, job = self._parts.vault, self._job.id

        def step() -> str:
            data = vault.get(job, name)
            if data is None:
                data = make()
                vault.put(job, name, data)
            return sha256(data).hexdigest()

        kept = DBOS.run_step({"name": name}, step)
        data = vault.get(job, name)
        if data is None or sha256(data).hexdigest() != kept:
            raise ProtocolError("STEP_LOST", f"what the step {name} kept is gone or changed")
        return data

    def keep(self, name: str, make: Callable[[], bytes]) -> bytes:
        """See ``node.role.Channel``."""
        data = self._parts.vault.get(self._job.id, name)
        if data is None:
            data = make()
            self._parts.vault.put(self._job.id, name, data)
        return data

    def put(self, name: str, data: bytes) -> None:
        """See ``node.role.Channel``."""
        self._parts.vault.put(self._job.id, name, data)

    def recall(self, name: str) -> bytes | None:
        """See ``node.role.Channel``."""
        return self._parts.vault.get(self._job.id, name)

    def send(self, recipient: str, step: str, payload: bytes, field_class: str) -> None:
        """See ``node.role.Channel``."""
        job = self._job
        sequence, payload = self._outgoing(f"{recipient} {step}", payload)
        envelope = Envelope(
            job=job.id,
            attempt=job.attempt,
            generation=self._generation,
            sender=job.party,
            recipient=recipient,
            step=step,
            sequence=sequence,
            payload=payload,
        )
        self._check()
        data = pack(envelope, self._parts.key)
        name = object_name(job.id, job.attempt, self._generation, step, job.party, recipient)
        self._parts.door.leave(recipient, name, data, purpose=step, job=job.id, field_class=field_class)

    def _outgoing(self, place: str, payload: bytes) -> tuple[int, bytes]:
        """Return the sequence number and the bytes of a message: what was kept when it was first sent.

        After a crash a session may take another path than before, and a payload is another one each time it is sealed.
        The recipient must get the bytes that it may have accepted already.
        """
        vault, job = self._parts.vault, self._job.id
        book = f"sent.{self._generation}.{self._first}"
        noted: dict[str, int] = json.loads(vault.get(job, book) or b"{}")
        sequence = noted.get(place, 0)
        if not sequence:
            sequence = noted[place] = self._first + len(noted) + 1
            vault.put(job, f"{book}.{sequence}", payload)
            vault.put(job, book, json.dumps(noted).encode())
        kept = vault.get(job, f"{book}.{sequence}")
        if kept is None:
            raise ProtocolError("STEP_LOST", "what was sent before is gone")
        return sequence, kept

    def receive(self, sender: str, step: str, patience: float | None = None) -> bytes:
        """See ``node.role.Channel``."""
        job = self._job
        deadline = self._deadline if patience is None else min(self._deadline, time.monotonic() + patience)
        name = object_name(job.id, job.attempt, self._generation, step, sender, job.party)
        data = self._parts.exchange.wait(sender, name, deadline, self._check)
        return accept(self._parts, data, job.id, sender, job.attempt, self._generation, step).payload

    def sign(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """See ``node.role.Channel``."""
        return document.sign(kind, body, self._job.party, self._parts.key)

    def verify(self, kind: str, signed: dict[str, Any], signer: str) -> dict[str, Any]:
        """See ``node.role.Channel``."""
        return document.verify(signed, kind, self._parts.directory().keys_by_name, [signer])

    def keys(self) -> Mapping[str, PublicKey]:
        """See ``node.role.Channel``."""
        return self._parts.directory().keys_by_name

    def note(self, step: str, **numbers: Any) -> None:
        """See ``node.role.Channel``."""
        self._parts.notes(self._job.id, step, numbers)

    def _check(self) -> None:
        self._parts.leases.check(self._job.manifest.proposal.digest, self._generation, self._began)


def accept(
    parts: Parts, data: bytes, job: str, sender: str, attempt: int, generation: int, step: str
) -> Envelope:
    """Check a received message against what was expected here and now; what is refused is logged.

    Raises:
        ProtocolError: it is forged, for somebody else, of another step or attempt, or comes out of order.
    """
    try:
        envelope = unpack(data, recipient=parts.party, job=job, directory=parts.directory())
        found = (envelope.sender, envelope.attempt, envelope.generation, envelope.step)
        if found != (sender, attempt, generation, step):
            raise ProtocolError(
                "MESSAGE_UNEXPECTED", f"a message of {sender} is not the one that was awaited"
            )
        register(parts.store, envelope)
    except ProtocolError as error:
        parts.store.refuse(sender, error.code, error.message)
        raise
    return envelope


def register(store: Store, envelope: Envelope) -> bool:
    """Run an envelope through the job's replay guard; returns False if these very bytes were accepted before.

    Raises:
        Replayed: it comes out of order.
    """
    with _guards:
        state = store.load_guard(envelope.job)
        guard = ReplayGuard() if state is None else ReplayGuard.from_state(state)
        try:
            guard.accept(envelope)
        except Replayed as error:
            if error.code == "ENVELOPE_REPEATED":
                return False
            raise
        store.save_guard(envelope.job, guard.to_state())
        return True


_guards = threading.Lock()
