"""The same job in one process: every bank's real code, real keys, masks and openings, without network and disk.

For figures over many seeds and for tests. With ``release: none`` and a stated seed the model is equal to the deployed
one to the last bit on the same machine: sums in the ring don't depend on masks, and a stated seed fixes the rest.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bank_node.role import BankRole
from node.ingest import Table
from node.role import Job
from node.table_source import TableSource
from protocol import document, ring
from protocol.canonical import encode
from protocol.contract import DataContract
from protocol.errors import JobVoid, ProtocolError
from protocol.identity import Directory, IdentityKey, Party, Role, issue
from protocol.job import Enlistment, Manifest, Proposal, verify_manifest
from protocol.mailbox import COORDINATOR
from protocol.masking import MaskKey
from protocol.opening import Opening, Roster
from protocol.sealing import SealingKey

ROSTER = "roster"
WAIT_SECONDS = 600


@dataclass(frozen=True)
class Simulated:
    """What came out.

    Attributes:
        job: J.
        model: digest of the model.
        figures: as the banks read them from the masked histograms.
        models: directory with the model (``<models>/<bank>/<J>``).
        rounds: seconds of each round.
    """

    job: str
    model: str
    figures: dict[str, Any]
    models: Path
    rounds: tuple[float, ...]


class _Relay:
    """Mailboxes and openings in memory; the server's part, which reads nothing."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self._changed = threading.Condition()
        self._mail: dict[tuple[str, str, str], bytes] = {}
        self._openings: dict[str, Opening] = {}
        self._signed: dict[str, Any] = {}
        self._failed: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        with self._changed:
            self._failed = error
            self._changed.notify_all()

    def put(self, sender: str, recipient: str, step: str, payload: bytes) -> None:
        with self._changed:
            if recipient != COORDINATOR:
                self._mail[(sender, recipient, step)] = payload
            elif step == ROSTER:
                self._signed[sender] = payload
            else:
                length = len(payload) // 8
                opening = self._openings.setdefault(step, Opening(self.roster, step, 0, length))
                opening.add(sender, ring.from_bytes(payload, length))
            self._changed.notify_all()

    def get(self, sender: str, recipient: str, step: str) -> bytes:
        with self._changed:
            found = self._changed.wait_for(lambda: self._look(sender, recipient, step), timeout=WAIT_SECONDS)
            if self._failed is not None:
                raise JobVoid("PARTY_MISSING", "another bank stopped") from self._failed
            if not found:
                raise JobVoid("EXCHANGE_TIMEOUT", f"nothing came from {sender} in time")
            return self._take(sender, recipient, step)

    def _look(self, sender: str, recipient: str, step: str) -> bool:
        if self._failed is not None:
            return True
        if sender != COORDINATOR:
            return (sender, recipient, step) in self._mail
        if step == ROSTER:
            return len(self._signed) == len(self.roster.banks)
        return step in self._openings and not self._openings[step].missing

    def _take(self, sender: str, recipient: str, step: str) -> bytes:
        if sender != COORDINATOR:
            return self._mail[(sender, recipient, step)]
        if step == ROSTER:
            import json

            return encode({bank: json.loads(signed) for bank, signed in self._signed.items()})
        return ring.to_bytes(self._openings[step].total())


class _Channel:
    """``node.role.Channel`` in memory."""

    def __init__(self, party: str, key: IdentityKey, directory: Directory, relay: _Relay) -> None:
        self._party, self._key, self._directory, self._relay = party, key, directory, relay
        self._kept: dict[str, bytes] = {}

    def once(self, name: str, make: Callable[[], bytes]) -> bytes:
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def recall(self, name: str) -> bytes | None:
        return self._kept.get(name)

    def send(self, recipient: str, step: str, payload: bytes, field_class: str) -> None:
        self._relay.put(self._party, recipient, step, payload)

    def receive(self, sender: str, step: str) -> bytes:
        return self._relay.get(sender, self._party, step)

    def sign(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        return document.sign(kind, body, self._party, self._key)

    def verify(self, kind: str, signed: dict[str, Any], signer: str) -> dict[str, Any]:
        return document.verify(signed, kind, self._directory.keys_by_name, [signer])

    def note(self, step: str, **numbers: Any) -> None:
        pass


def simulate(
    proposal: Proposal,
    contract: DataContract,
    tables: Mapping[str, Table],
    models: Path,
    progress: Callable[[str, float], None] = lambda step, seconds: None,
) -> Simulated:
    """Run a job on tables in memory.

    Args:
        proposal: the job; its banks are the tables' names.
        contract: the data contract of the tables.
        tables: each bank's own table.
        models: directory for the model files, one subdirectory a bank.
        progress: called with each step and its seconds.

    Raises:
        ConcordatError: as the deployed job would end with.
    """
    keys = {bank: IdentityKey.generate() for bank in proposal.banks}
    directory = _directory(proposal.consortium, keys)
    roles = {bank: BankRole(_source(contract, tables[bank]), models / bank) for bank in proposal.banks}
    manifest, secret = _enlist(proposal, keys, roles, directory)
    roster = manifest.roster(0)
    relay = _Relay(roster)
    channels = {bank: _Channel(bank, keys[bank], directory, relay) for bank in proposal.banks}
    jobs = {
        bank: Job(manifest.digest, manifest, bank, roster, *secret[bank], opened={})
        for bank in proposal.banks
    }

    def together(step: str, act: Callable[[str], Any]) -> dict[str, Any]:
        began = time.monotonic()

        def guarded(bank: str) -> Any:
            try:
                return act(bank)
            except BaseException as error:
                relay.fail(error)
                raise

        with ThreadPoolExecutor(len(jobs)) as pool:
            futures = {bank: pool.submit(guarded, bank) for bank in jobs}
        failed = [f.exception() for f in futures.values() if f.exception() is not None]
        # The cause, not the banks that stopped because of it.
        for error in sorted(failed, key=lambda e: isinstance(e, JobVoid)):
            assert error is not None
            raise error
        progress(step, time.monotonic() - began)
        return {bank: future.result() for bank, future in futures.items()}

    together("session", lambda bank: roles[bank].session(jobs[bank], channels[bank]))
    rounds = (proposal.dp_recipe if proposal.release.kind == "dp" else proposal.recipe).rounds
    total, took = b"", []
    for round_ in range(1, rounds + 1):
        began = time.monotonic()
        updates = {
            bank: roles[bank].train(jobs[bank], channels[bank], round_, total) for bank in proposal.banks
        }
        total = _add(roster, round_, updates)
        took.append(time.monotonic() - began)
        progress(f"round {round_}", took[-1])
    ends = together("finish", lambda bank: roles[bank].finish(jobs[bank], channels[bank], total))
    found = {bank: end["statement"]["body"]["model"] for bank, end in ends.items()}
    if len(set(found.values())) != 1:
        raise ProtocolError("MODEL_DIFFERS", "the banks did not arrive at the same model")
    first = proposal.banks[0]
    return Simulated(manifest.digest, found[first], ends[first]["figures"], models, tuple(took))


def _source(contract: DataContract, table: Table) -> TableSource:
    return TableSource(Role.BANK.value, lambda: (contract, table))


def _add(roster: Roster, round_: int, updates: Mapping[str, bytes]) -> bytes:
    length = len(next(iter(updates.values()))) // 8
    opening = Opening(roster, "update", round_, length)
    for bank, data in updates.items():
        opening.add(bank, ring.from_bytes(data, length))
    return ring.to_bytes(opening.total())


def _directory(consortium: str, keys: Mapping[str, IdentityKey]) -> Directory:
    registry, now = IdentityKey.generate(), int(time.time())
    statements = [
        issue(Party(bank, Role.BANK, key.public, "", now - 60, now + 86_400, serial), consortium, registry)
        for serial, (bank, key) in enumerate(sorted(keys.items()), 1)
    ]
    return Directory.from_statements(statements, consortium, registry.public, now)


def _enlist(
    proposal: Proposal,
    keys: Mapping[str, IdentityKey],
    roles: Mapping[str, BankRole],
    directory: Directory,
) -> tuple[Manifest, dict[str, tuple[MaskKey, SealingKey]]]:
    secret: dict[str, tuple[MaskKey, SealingKey]] = {}
    signed: list[dict[str, Any]] = []
    own: dict[str, Enlistment] = {}
    for bank in proposal.banks:
        roles[bank].check(proposal)
        secret[bank] = (MaskKey.generate(), SealingKey.generate())
        own[bank] = Enlistment(
            proposal=proposal.digest,
            party=bank,
            nonce=secrets.token_hex(32),
            mask_key=secret[bank][0].public.hex(),
            sealing_key=secret[bank][1].public.hex(),
            cohort_commitment=roles[bank].commitment(secrets.token_bytes(32)),
            code=proposal.code,
        )
        signed.append(own[bank].sign(bank, keys[bank]))
    manifest = Manifest.assemble(proposal, signed)
    for bank in proposal.banks:
        verify_manifest(manifest, own=own[bank], code=proposal.code, directory=directory)
    return manifest, secret


def proposal_for(banks: Sequence[str], contract: DataContract, consortium: str, **changes: Any) -> Proposal:
    """Return a proposal for a simulation or the demo, with the recipe's defaults."""
    body: dict[str, Any] = {
        "consortium": consortium,
        "title": "Shared bank score",
        "purpose": "train",
        "banks": sorted(banks),
        "contract": contract.digest,
        "code": "0" * 64,
        "min_rows": 200,
        "submitted_by": "modeller",
        "submitted_at": int(time.time()),
        "nonce": secrets.token_hex(32),
        **changes,
    }
    return Proposal.model_validate(body)
