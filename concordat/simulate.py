"""The same job in one process: every bank's real code, real keys, masks and openings, without network and disk.

For figures over many seeds and for tests. With ``release: none`` and a stated seed the model is equal to the deployed
one to the last bit on the same machine: sums in the ring don't depend on masks, and a stated seed fixes the rest.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bank_node.role import BankRole
from coordinator.compute import ComputeRole
from data_partner_node.role import PartnerRole
from node.ingest import Table
from node.keep import MemoryKeep
from node.role import Job
from node.table_source import TableSource
from protocol import document, ring
from protocol.canonical import encode
from protocol.contract import DataContract
from protocol.errors import JobVoid, ProtocolError, Unavailable
from protocol.identity import Directory, IdentityKey, Party, PublicKey, Role, issue
from protocol.job import Enlistment, Manifest, Proposal, verify_manifest
from protocol.mailbox import COORDINATOR
from protocol.masking import MaskKey
from protocol.opening import Opening, Roster
from protocol.sealing import SealingKey

GATHERED = ("roster", "published")
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
        self._signed: dict[str, dict[str, Any]] = {}
        self._failed: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        with self._changed:
            self._failed = error
            self._changed.notify_all()

    def put(self, sender: str, recipient: str, step: str, payload: bytes) -> None:
        with self._changed:
            if recipient != COORDINATOR:
                self._mail[(sender, recipient, step)] = payload
            elif step in GATHERED:
                self._signed.setdefault(step, {})[sender] = payload
            else:
                length = len(payload) // 8
                opening = self._openings.setdefault(step, Opening(self.roster, step, 0, length))
                opening.add(sender, ring.from_bytes(payload, length))
            self._changed.notify_all()

    def get(self, sender: str, recipient: str, step: str) -> bytes:
        with self._changed:
            found = self._changed.wait_for(lambda: self._look(sender, recipient, step), timeout=WAIT_SECONDS)
            if self._failed is not None:
                raise JobVoid("PARTY_MISSING", "another party stopped") from self._failed
            if not found:
                raise Unavailable("EXCHANGE_TIMEOUT", f"nothing came from {sender} in time")
            return self._take(sender, recipient, step)

    def _look(self, sender: str, recipient: str, step: str) -> bool:
        if self._failed is not None:
            return True
        if sender != COORDINATOR:
            return (sender, recipient, step) in self._mail
        if step in GATHERED:
            return len(self._signed.get(step, {})) == len(self.roster.banks)
        return step in self._openings and not self._openings[step].missing

    def _take(self, sender: str, recipient: str, step: str) -> bytes:
        if sender != COORDINATOR:
            return self._mail[(sender, recipient, step)]
        if step in GATHERED:
            return encode({bank: json.loads(signed) for bank, signed in self._signed[step].items()})
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

    keep = once

    def put(self, name: str, data: bytes) -> None:
        self._kept[name] = data

    def recall(self, name: str) -> bytes | None:
        return self._kept.get(name)

    def send(self, recipient: str, step: str, payload: bytes, field_class: str) -> None:
        self._relay.put(self._party, recipient, step, payload)

    def receive(self, sender: str, step: str, patience: float | None = None) -> bytes:
        return self._relay.get(sender, self._party, step)

    def sign(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        return document.sign(kind, body, self._party, self._key)

    def verify(self, kind: str, signed: dict[str, Any], signer: str) -> dict[str, Any]:
        return document.verify(signed, kind, self._directory.keys_by_name, [signer])

    def keys(self) -> Mapping[str, PublicKey]:
        return self._directory.keys_by_name

    def note(self, step: str, **numbers: Any) -> None:
        pass


class Simulation:
    """All parties of one job in one process.

    Args:
        proposal: the job; its banks are the tables' names.
        contract: the data contract of the tables.
        tables: each bank's own table.
        models: directory for the model files, one subdirectory a bank.
        progress: called with each step and its seconds.
        partners: the data partners' roles and tables, where the proposal has joint stages.
        keeps: what parties kept from an earlier job, by name; filled for a later one.
        consents: codes by bank (partner, id) and by partner (bank, id), where the job demands them.
    """

    def __init__(
        self,
        proposal: Proposal,
        contract: DataContract,
        tables: Mapping[str, Table],
        models: Path,
        progress: Callable[[str, float], None] = lambda step, seconds: None,
        partners: Mapping[str, tuple[Role, Table]] | None = None,
        keeps: dict[str, MemoryKeep] | None = None,
        consents: Mapping[str, Mapping[str, Mapping[str, Any]]] | None = None,
    ) -> None:
        self.proposal, self._models, self._progress = proposal, models, progress
        keeps, consents = {} if keeps is None else keeps, consents or {}
        for party in proposal.parties:
            keeps.setdefault(party, MemoryKeep())
        self._keys = {party: IdentityKey.generate() for party in proposal.parties}
        self.roles: dict[str, BankRole | PartnerRole | ComputeRole] = {}
        kinds = dict.fromkeys(proposal.banks, Role.BANK)
        for bank in proposal.banks:
            source = _source(Role.BANK, contract, tables[bank])
            codes = consents.get(bank)
            self.roles[bank] = BankRole(source, models / bank, keeps[bank], codes=codes, exact=True)
        for name, (role, table) in (partners or {}).items():
            if name in proposal.parties:
                kinds[name] = role
                source, given = _source(role, contract, table), consents.get(name)
                self.roles[name] = PartnerRole(source, keeps[name], name, consents=given, exact=True)
        if proposal.vertical is not None:
            kinds[proposal.vertical.compute] = Role.COMPUTE
            self.roles[proposal.vertical.compute] = ComputeRole(keeps[proposal.vertical.compute], exact=True)
        directory = _directory(proposal.consortium, self._keys, kinds)
        self.manifest, secret = _enlist(proposal, self._keys, self.roles, directory)
        self._roster = self.manifest.roster(0)
        self._relay = _Relay(self._roster)
        self.channels = {
            party: _Channel(party, self._keys[party], directory, self._relay) for party in proposal.parties
        }
        self._jobs = {
            party: Job(self.manifest.digest, self.manifest, party, self._roster, *secret[party], opened={})
            for party in proposal.parties
        }

    def session(self) -> dict[str, Any]:
        """Run the session of all parties; returns what each told the coordinator."""
        return self._together(
            "session", self.proposal.parties, lambda role, job, channel: role.session(job, channel)
        )

    def rounds(self) -> tuple[bytes, list[float]]:
        """Run all rounds; returns the last total and the seconds of each."""
        total, took = b"", []
        for round_ in range(1, self.proposal.rounds + 1):
            began = time.monotonic()
            updates = {
                bank: self.roles[bank].train(self._jobs[bank], self.channels[bank], round_, total)
                for bank in self.proposal.banks
            }
            total = _add(self._roster, round_, updates)
            took.append(time.monotonic() - began)
            self._progress(f"round {round_}", took[-1])
        return total, took

    def finish(self, total: bytes, took: Sequence[float]) -> Simulated:
        """Evaluate and keep the model."""
        banks = self.proposal.banks
        ends = self._together("finish", banks, lambda role, job, channel: role.finish(job, channel, total))
        found = {bank: end["statement"]["body"]["model"] for bank, end in ends.items()}
        if len(set(found.values())) != 1:
            raise ProtocolError("MODEL_DIFFERS", "the banks did not arrive at the same model")
        first = banks[0]
        return Simulated(
            self.manifest.digest, found[first], ends[first]["figures"], self._models, tuple(took)
        )

    def _together(
        self,
        step: str,
        parties: Sequence[str],
        act: Callable[[BankRole | PartnerRole | ComputeRole, Job, _Channel], Any],
    ) -> dict[str, Any]:
        began = time.monotonic()

        def guarded(party: str) -> Any:
            try:
                return act(self.roles[party], self._jobs[party], self.channels[party])
            except BaseException as error:
                self._relay.fail(error)
                raise

        with ThreadPoolExecutor(len(parties)) as pool:
            futures = {party: pool.submit(guarded, party) for party in parties}
        failed = [f.exception() for f in futures.values() if f.exception() is not None]
        # The cause, not the parties that stopped because of it.
        for error in sorted(failed, key=lambda e: getattr(e, "code", "") == "PARTY_MISSING"):
            assert error is not None
            raise error
        self._progress(step, time.monotonic() - began)
        return {party: future.result() for party, future in futures.items()}


def simulate(
    proposal: Proposal,
    contract: DataContract,
    tables: Mapping[str, Table],
    models: Path,
    progress: Callable[[str, float], None] = lambda step, seconds: None,
    **more: Any,
) -> Simulated:
    """Run a job on tables in memory; the arguments are those of `Simulation`.

    Raises:
        ConcordatError: as the deployed job would end with.
    """
    run = Simulation(proposal, contract, tables, models, progress, **more)
    run.session()
    return run.finish(*run.rounds())


def _source(role: Role, contract: DataContract, table: Table) -> TableSource:
    return TableSource(role.value, lambda: (contract, table))


def _add(roster: Roster, round_: int, updates: Mapping[str, bytes]) -> bytes:
    length = len(next(iter(updates.values()))) // 8
    opening = Opening(roster, "update", round_, length)
    for bank, data in updates.items():
        opening.add(bank, ring.from_bytes(data, length))
    return ring.to_bytes(opening.total())


def _directory(consortium: str, keys: Mapping[str, IdentityKey], kinds: Mapping[str, Role]) -> Directory:
    registry, now = IdentityKey.generate(), int(time.time())
    statements = [
        issue(Party(bank, kinds[bank], key.public, "", now - 60, now + 86_400, serial), consortium, registry)
        for serial, (bank, key) in enumerate(sorted(keys.items()), 1)
    ]
    return Directory.from_statements(statements, consortium, registry.public, now)


def _enlist(
    proposal: Proposal,
    keys: Mapping[str, IdentityKey],
    roles: Mapping[str, BankRole | PartnerRole | ComputeRole],
    directory: Directory,
) -> tuple[Manifest, dict[str, tuple[MaskKey, SealingKey]]]:
    secret: dict[str, tuple[MaskKey, SealingKey]] = {}
    signed: list[dict[str, Any]] = []
    own: dict[str, Enlistment] = {}
    for party in proposal.parties:
        roles[party].check(proposal)
        secret[party] = (MaskKey.generate(), SealingKey.generate())
        own[party] = Enlistment(
            proposal=proposal.digest,
            party=party,
            nonce=secrets.token_hex(32),
            mask_key=secret[party][0].public.hex(),
            sealing_key=secret[party][1].public.hex(),
            cohort_commitment=roles[party].commitment(secrets.token_bytes(32)),
            code=proposal.code,
            partner=roles[party].terms(proposal),
        )
        signed.append(own[party].sign(party, keys[party]))
    manifest = Manifest.assemble(proposal, signed)
    for party in proposal.parties:
        verify_manifest(manifest, own=own[party], code=proposal.code, directory=directory)
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
