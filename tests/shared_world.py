"""Three banks that train H, H+ and S in one process, with partners' bins that a test makes up.

The banks' real code, keys, masks and openings; what stands in for stages V and P is a line that keeps the bins where
the session would leave them. Sums that the server adds are recorded.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bank_node.data import BankData
from bank_node.score import BankScore
from bank_node.subscores import SubScores
from node.ingest import Report, Table
from node.role import Job
from protocol import document, ring
from protocol.canonical import encode
from protocol.contract import Dataset, Field
from protocol.identity import Role
from protocol.job import Enlistment, Manifest, Proposal, Recipe, SharedRecipe, Vertical
from protocol.keys import IdentityKey
from protocol.mailbox import COORDINATOR
from protocol.masking import MaskKey
from protocol.opening import Opening
from protocol.sealing import SealingKey

BANKS, PARTNERS, COMPUTE = ("bank-1", "bank-2", "bank-3"), ("city", "shop"), "neutral"
RECIPE = Recipe(bins=4, hidden=(8, 4), rounds=2, local_steps=30)
SHARED = SharedRecipe(rounds=2, local_steps=30, learning_rate=5e-3)
DATASET = Dataset(
    role=Role.BANK.value,
    name="Banks",
    label="outcome",
    id_type="opaque",
    fields=(Field(name="size", type="number"), Field(name="kind", type="category", levels=("a", "b"))),
)


def table(seed: int, rows: int = 900) -> tuple[Table, NDArray[np.float64]]:
    """Return a bank's table, and what a partner would know of its rows."""
    rng = np.random.Generator(np.random.PCG64(seed))
    size, known = rng.normal(size=rows), rng.normal(size=rows)
    y = (rng.random(rows) < 1 / (1 + np.exp(1.0 - size - 1.5 * known))).astype(np.int8)
    frame = pd.DataFrame(
        {"size": size, "kind": pd.Categorical(rng.choice(["a", "b"], rows), categories=["a", "b"])},
        index=[f"{seed}-{i:05}" for i in range(rows)],
    )
    return Table(frame, y, "0" * 64, Report("", "csv", "", rows, rows, 0, (), {}, 0)), known


def binned(values: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return values in 16 bins at their own quantiles."""
    edges = np.quantile(values, np.arange(1, 16) / 16)
    return np.searchsorted(edges, values, side="right").astype(np.int8)


def proposal(vertical: bool = True, **changes: Any) -> Proposal:
    body: dict[str, Any] = {
        "consortium": "world",
        "title": "Shared risk model",
        "purpose": "train",
        "banks": BANKS,
        "contract": "0" * 64,
        "code": "0" * 64,
        "recipe": RECIPE,
        "seed": 1,
        "min_rows": 1,
        "submitted_by": "modeller",
        "submitted_at": 1,
        "nonce": secrets.token_hex(32),
        **changes,
    }
    if vertical:
        terms: dict[str, Any] = {"partners": PARTNERS, "compute": COMPUTE, "epoch": "1", "base_rate": 0.3}
        body["vertical"] = Vertical(**{**terms, "rows": 3000, "recipe": SHARED, **body.get("vertical", {})})
        body["witnesses"] = tuple(sorted((*PARTNERS, COMPUTE)))
    return Proposal.model_validate(body)


class Relay:
    """Mailboxes and openings in memory."""

    def __init__(self, roster: Any) -> None:
        self.roster, self.changed = roster, threading.Condition()
        self.mail: dict[tuple[str, str, str], bytes] = {}
        self.signed: dict[str, dict[str, bytes]] = {}
        self.openings: dict[str, Opening] = {}
        self.failed = False

    def put(self, sender: str, recipient: str, step: str, payload: bytes) -> None:
        with self.changed:
            if recipient != COORDINATOR:
                self.mail[sender, recipient, step] = payload
            elif step == "roster":
                self.signed.setdefault(step, {})[sender] = payload
            else:
                opening = self.openings.setdefault(step, Opening(self.roster, step, 0, len(payload) // 8))
                opening.add(sender, ring.from_bytes(payload, len(payload) // 8))
            self.changed.notify_all()

    def get(self, sender: str, recipient: str, step: str) -> bytes:
        def there() -> bool:
            if self.failed or sender != COORDINATOR:
                return self.failed or (sender, recipient, step) in self.mail
            if step == "roster":
                return len(self.signed.get(step, {})) == len(BANKS)
            return step in self.openings and not self.openings[step].missing

        with self.changed:
            assert self.changed.wait_for(there, timeout=60), step
            assert not self.failed, step
            if sender != COORDINATOR:
                return self.mail[sender, recipient, step]
            if step == "roster":
                return encode({bank: json.loads(said) for bank, said in self.signed[step].items()})
            return ring.to_bytes(self.openings[step].total())


@dataclass
class MemoryChannel:
    """A bank's channel."""

    party: str
    key: IdentityKey
    keys_by_name: Mapping[str, Any]
    relay: Relay
    kept: dict[str, bytes] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[], bytes]) -> bytes:
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    keep = once

    def put(self, name: str, data: bytes) -> None:
        self.kept[name] = data

    def recall(self, name: str) -> bytes | None:
        return self.kept.get(name)

    def send(self, recipient: str, step: str, payload: bytes, field_class: str) -> None:
        self.relay.put(self.party, recipient, step, payload)

    def receive(self, sender: str, step: str, patience: float | None = None) -> bytes:
        return self.relay.get(sender, self.party, step)

    def sign(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        return document.sign(kind, body, self.party, self.key)

    def verify(self, kind: str, signed: dict[str, Any], signer: str) -> dict[str, Any]:
        return document.verify(signed, kind, self.keys_by_name, [signer])

    def keys(self) -> Mapping[str, Any]:
        return self.keys_by_name

    def note(self, step: str, **numbers: Any) -> None:
        pass


class World:
    """A job under way."""

    def __init__(
        self,
        asked: Proposal,
        models: Path,
        tables: Mapping[str, Table],
        known: Mapping[str, SubScores] | None = None,
    ) -> None:
        self.proposal, self.models = asked, models
        keys = {party: IdentityKey.generate() for party in asked.parties}
        masks = {party: MaskKey.generate() for party in asked.parties}
        seals = {party: SealingKey.generate() for party in asked.parties}
        signed = [
            Enlistment(
                proposal=asked.digest,
                party=party,
                nonce=secrets.token_hex(32),
                mask_key=masks[party].public.hex(),
                sealing_key=seals[party].public.hex(),
                code=asked.code,
            ).sign(party, keys[party])
            for party in asked.parties
        ]
        manifest = Manifest.assemble(asked, signed)
        roster = manifest.roster(0)
        self.job = manifest.digest
        self.relay = Relay(roster)
        public = {party: key.public for party, key in keys.items()}
        self.channels = {bank: MemoryChannel(bank, keys[bank], public, self.relay) for bank in BANKS}
        self.data = {bank: BankData(tables[bank], DATASET, asked, self.job, models / bank) for bank in BANKS}
        for bank, bins in (known or {}).items():
            self.channels[bank].keep("subscores.0", bins.to_bytes)
        self.scores = {
            bank: BankScore(
                Job(self.job, manifest, bank, roster, masks[bank], seals[bank], opened={}),
                self.channels[bank],
                self.data[bank],
            )
            for bank in BANKS
        }
        self.totals: list[bytes] = []

    def together(self, act: Callable[[str], Any]) -> dict[str, Any]:
        def guarded(bank: str) -> Any:
            try:
                return act(bank)
            except BaseException:
                with self.relay.changed:
                    self.relay.failed = True
                    self.relay.changed.notify_all()
                raise

        with ThreadPoolExecutor(len(BANKS)) as pool:
            futures = {bank: pool.submit(guarded, bank) for bank in BANKS}
        errors = [future.exception() for future in futures.values() if future.exception()]
        for error in sorted(errors, key=lambda e: isinstance(e, AssertionError)):
            raise error
        return {bank: future.result() for bank, future in futures.items()}

    def session(self) -> None:
        self.together(lambda bank: self.scores[bank].session())

    def train(self, rounds: int | None = None) -> bytes:
        """Run rounds, all by default; returns the last total."""
        last = self.proposal.rounds if rounds is None else rounds
        for round_ in range(len(self.totals) + 1, last + 1):
            total = self.totals[-1] if self.totals else b""
            updates = {bank: self.scores[bank].train(round_, total) for bank in BANKS}
            length = len(updates[BANKS[0]]) // 8
            opening = Opening(self.relay.roster, "update", round_, length)
            for bank, update in updates.items():
                opening.add(bank, ring.from_bytes(update, length))
            self.totals.append(ring.to_bytes(opening.total()))
        return self.totals[-1]

    def finish(self) -> dict[str, Any]:
        total = self.totals[-1]
        return self.together(lambda bank: self.scores[bank].finish(total))


def world(
    models: Path,
    partners: tuple[str, ...] = PARTNERS,
    coverage: float = 0.8,
    null: bool = False,
    asked: Proposal | None = None,
    rows: int = 900,
) -> World:
    """Return a job whose partners know what the banks don't, or with ``null`` nothing at all."""
    tables, known = {}, {}
    for seed, bank in enumerate(BANKS):
        tables[bank], hidden = table(seed, rows)
        rng = np.random.Generator(np.random.PCG64(100 + seed))
        bins = np.empty((rows, len(partners)), dtype=np.int8)
        for i in range(len(partners)):
            noise = rng.normal(size=rows)
            bins[:, i] = binned(noise if null else hidden + noise)
            bins[rng.random(rows) >= coverage, i] = -1
        known[bank] = SubScores(partners, bins)
    asked = asked or proposal()
    return World(asked, models, tables, known if asked.vertical else None)
