"""Stages V and P over the real sessions of all parties, small, with everything that crosses or is kept recorded.

One partner, banks whose ids are chosen: who is a client is up to the test, how many are held out is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bank_node.data import split_salt
from bank_node.training import is_holdout
from concordat import dataset
from concordat.economy import write_economy
from concordat.simulate import Simulation, _Channel, _Relay, proposal_for
from data_partner_node.tables import PartnerTable
from node.ingest import Table
from node.keep import MemoryKeep
from node.privacy import PrivacyBook
from protocol import labels, product, vertical
from protocol.errors import ConcordatError, ProtocolError, Unavailable
from protocol.identity import Role
from protocol.job import Proposal
from protocol.labels import Label, LabelLedger
from protocol.mailbox import COORDINATOR
from protocol.subscore import sign_bits

COMPUTE, PARTNER = "compute", "government"
BASE_RATE, COMPONENTS, ROWS = 0.5, 6, 160
LISTED, TRAINED, HELD = 200, 42, 18
"""Rows of the partner; training rows and hold-out rows of each bank."""


@dataclass(frozen=True)
class Event:
    """A message that left a party, or bytes that it kept beyond the job (``shelf/name`` as the step)."""

    party: str
    recipient: str
    step: str
    payload: bytes
    kept: bool = False

    @property
    def shape(self) -> tuple[str, str, int]:
        return self.recipient, self.step, len(self.payload)


class Keep(MemoryKeep):
    """Notes every put in the world's log, in the order of the party's messages."""

    def __init__(self, party: str, log: list[Event]) -> None:
        super().__init__()
        self._party, self._log = party, log

    def put(self, shelf: str, name: str, data: bytes) -> None:
        self._log.append(Event(self._party, "", f"{shelf}/{name}", data, kept=True))
        super().put(shelf, name, data)


class Tapped:
    """A channel whose messages are noted, and may be changed on their way."""

    def __init__(self, inner: _Channel, world: Joint, party: str) -> None:
        self.inner, self._world, self._party = inner, world, party

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def send(self, recipient: str, step: str, payload: bytes, field_class: str) -> None:
        event = Event(self._party, recipient, step, payload)
        self._world.log.append(event)
        self.inner.send(recipient, step, self._world.on_its_way(event), field_class)

    def receive(self, sender: str, step: str, patience: float | None = None) -> bytes:
        relay = self._world.relay
        world, party = self._world, self._party

        def over() -> bool:
            if relay._look(sender, party, step) or world.lost(sender):
                return True
            # Patience, without a clock: when everybody waits, the partner is the first to give up.
            return party == PARTNER and world.stuck()

        with relay._changed:
            world.waiting[party] = (sender, step)
            relay._changed.notify_all()
            relay._changed.wait_for(over, timeout=60)
            del world.waiting[party]
            if not relay._look(sender, party, step):
                raise Unavailable("EXCHANGE_TIMEOUT", f"nothing came from {sender} in time")
        return self.inner.receive(sender, step)


class Joint(Simulation):
    """The parties of a job with one partner; a party that fails is gone for the others, and for nobody else."""

    def __init__(self, proposal: Proposal, market: Market, cohorts: Mapping[str, Sequence[str]]) -> None:
        self.log: list[Event] = []
        self.gone: set[str] = set()
        self.alive: set[str] = set()
        self.waiting: dict[str, tuple[str, str]] = {}
        self.change: Callable[[Event, bytes], bytes] = lambda event, content: content
        self.market, self.cohorts = market, cohorts
        keeps: dict[str, MemoryKeep] = {party: Keep(party, self.log) for party in proposal.parties}
        tables = {bank: market.bank_table(ids) for bank, ids in cohorts.items()}
        super().__init__(
            proposal,
            market.data.contract(),
            tables,
            market.home,
            partners={PARTNER: (Role.GOVERNMENT, market.partner_table)},
            keeps=keeps,
        )
        self.keeps, self.tables = keeps, tables
        self.attempt = 0
        self._tap()

    @property
    def relay(self) -> _Relay:
        return self._relay

    def job(self, party: str) -> Any:
        return self._jobs[party]

    def _tap(self) -> None:
        self.taps = {party: Tapped(self.channels[party], self, party) for party in self.proposal.parties}

    def content(self, event: Event) -> bytes:
        """What a message says; the world holds all keys."""
        if event.recipient == COORDINATOR:
            return event.payload
        job = self._jobs[event.recipient]
        try:
            return vertical.unseal(
                job.sealing_key, job.roster, event.step, event.party, event.recipient, event.payload
            )
        except ProtocolError:
            return event.payload

    def on_its_way(self, event: Event) -> bytes:
        """The bytes that arrive: as sent, or what the sender would have sent had it said something else."""
        said = self.content(event)
        changed = self.change(event, said)
        if changed == said:
            return event.payload
        roster = self._jobs[event.party].roster
        return vertical.seal(self.manifest, roster, event.step, event.party, event.recipient, changed)

    def again(self, banks: Sequence[str] | None = None, attempt: int | None = None) -> None:
        """Begin another attempt: kept bytes stay, messages don't."""
        self.attempt = self.attempt + 1 if attempt is None else attempt
        roster = self.manifest.roster(self.attempt, banks)
        self._relay = _Relay(roster)
        self.gone.clear()
        for party, channel in self.channels.items():
            channel._relay = self._relay
            self._jobs[party] = replace(self._jobs[party], roster=roster)

    def resume(self) -> None:
        """Let all parties begin this attempt's session anew, as after a crash."""
        self.again(self._jobs[COMPUTE].roster.banks, self.attempt)

    def run(self, silent: Sequence[str] = ()) -> dict[str, Any]:
        """Run the session; returns what each party told, or the error with which it ended."""
        banks = self._jobs[COMPUTE].roster.banks
        parties = [p for p in self.proposal.parties if p not in silent]
        parties = [p for p in parties if p in banks or p not in self.proposal.banks]
        self.gone |= set(silent)
        self.alive, self.waiting = set(parties), {}

        def one(party: str) -> Any:
            try:
                return self.roles[party].session(self._jobs[party], self.taps[party])  # type: ignore[arg-type]
            except Exception as error:
                self.leave(party)
                if isinstance(error, ConcordatError | Crash):
                    return error
                raise
            finally:
                with self._relay._changed:
                    self.alive.discard(party)
                    self._relay._changed.notify_all()

        with ThreadPoolExecutor(len(parties)) as pool:
            futures = {party: pool.submit(one, party) for party in parties}
        return {party: future.result() for party, future in futures.items()}

    def lost(self, sender: str) -> bool:
        """Whether what a party waits for can't come any more."""
        return bool(self.gone & ({sender} if sender != COORDINATOR else set(self.proposal.banks)))

    def stuck(self) -> bool:
        """Whether everybody that runs waits in vain."""
        return set(self.waiting) == self.alive and not any(
            self.lost(sender) or self._relay._look(sender, party, step)
            for party, (sender, step) in self.waiting.items()
        )

    def leave(self, party: str) -> None:
        with self._relay._changed:
            self.gone.add(party)
            self._relay._changed.notify_all()

    def sent(self, party: str) -> list[Event]:
        return [event for event in self.log if event.party == party and not event.kept]

    def shapes(self, party: str) -> list[tuple[str, str, int]]:
        return [event.shape for event in self.sent(party)]

    def opened(self) -> list[int]:
        data = self.channels[PARTNER].recall("opened")
        assert data is not None
        return np.frombuffer(data, dtype=np.int64).tolist()

    def training(self, bank: str) -> list[tuple[str, bool]]:
        """Ids and outcomes of a bank's training rows."""
        table = self.tables[bank]
        assert table.label is not None
        held = is_holdout(list(table.frame.index), self.market.salt, self.proposal.holdout)
        rows = zip(table.frame.index, table.label, held, strict=True)
        return [(one, bool(outcome)) for one, outcome, out in rows if not out]

    def plain(self) -> list[int]:
        """Σ a·sign over the plaintext."""
        good, bad = product.label_weights(BASE_RATE)
        total = np.zeros(COMPONENTS, dtype=np.int64)
        for bank in self._jobs[COMPUTE].roster.banks:
            for one, outcome in self.training(bank):
                if one in self.market.signs:
                    total += (bad if outcome else good) * self.market.signs[one]
        return total.tolist()


class Crash(RuntimeError):
    """The process dies here."""


class Market:
    """A partner that lists some enterprises, and the ids of others."""

    def __init__(self, home: Path, data: dataset.Dataset) -> None:
        self.home, self.data = home, data
        table = data.table(PARTNER)
        self.ids = list(table.frame.index)
        self.partner_table = replace(table, frame=table.frame.iloc[:LISTED])
        self._bank = data.table("bank-1")
        dataset_ = data.contract().dataset_for(Role.GOVERNMENT.value)
        own = PartnerTable(self.partner_table, dataset_, MemoryKeep(), {})
        basis = own.basis(COMPONENTS)
        z = np.concatenate(list(basis.blocks(own.columns)))
        rows: NDArray[np.int64] = 2 * sign_bits(z).astype(np.int64) - 1
        self.signs = dict(zip(self.ids[:LISTED], rows, strict=True))
        self.salt = split_salt(self.proposal(), "")

    def proposal(self, banks: int = 3, **terms: Any) -> Proposal:
        stated = {
            "partners": (PARTNER,),
            "compute": COMPUTE,
            "epoch": "2026-4",
            "base_rate": BASE_RATE,
            "rows": ROWS,
            "components": COMPONENTS,
            "epsilon": None,
            **terms,
        }
        names = [f"bank-{at + 1}" for at in range(banks)]
        witnesses = tuple(sorted([PARTNER, COMPUTE]))
        contract = self.data.contract()
        return proposal_for(
            names, contract, "test", seed=5, min_rows=20, witnesses=witnesses, vertical=stated
        )

    def cohort(self, listed: float, start: int = 0) -> list[str]:
        """Ids of a bank of which the partner lists a share, in training and in hold-out alike."""
        chosen: list[str] = []
        held = is_holdout(self.ids, self.salt, 0.3)
        for out, wanted in ((False, TRAINED), (True, HELD)):
            for side, share in ((slice(None, LISTED), listed), (slice(LISTED, None), 1 - listed)):
                found = [one for one, is_out in zip(self.ids[side], held[side], strict=True) if is_out == out]
                found = found[start:] + found[:start]
                chosen += found[: round(wanted * share)]
        return sorted(chosen)

    def bank_table(self, ids: Sequence[str]) -> Table:
        """A bank's table whose outcomes follow the partner's first component, where it lists the enterprise."""
        frame = self._bank.frame.iloc[: len(ids)].set_axis(list(ids))
        outcomes = [self.signs[one][0] > 0 if one in self.signs else at % 2 for at, one in enumerate(ids)]
        return replace(self._bank, frame=frame, label=np.array(outcomes, dtype=np.int8))

    def joint(self, coverage: Sequence[float] = (1.0, 1.0, 1.0), **terms: Any) -> Joint:
        proposal = self.proposal(len(coverage), **terms)
        cohorts = {
            bank: self.cohort(share, 7 * at)
            for at, (bank, share) in enumerate(zip(proposal.banks, coverage, strict=True))
        }
        return Joint(proposal, self, cohorts)

    @classmethod
    def open(cls, home: Path) -> Market:
        write_economy(home, count=420, banks=3, seed=11, kind="parquet", replace=True)
        return cls(home / "models", dataset.load(home))


class Noting(LabelLedger):
    """A ledger that remembers what it refused: a session may take the refusal for a party's failure."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: list[Label] = []

    def record(self, key: bytes, label: Label, message: bytes, owner: str = "") -> None:
        try:
            super().record(key, label, message, owner)
        except ProtocolError:
            self.broken.append(label)
            raise


@contextmanager
def watched(patch: pytest.MonkeyPatch) -> Iterator[Noting]:
    """One ledger over the threads of all parties."""
    ledger = Noting()
    with patch.context() as inner:
        inner.setattr(labels, "_LEDGER", ContextVar("watched", default=ledger))
        yield ledger


def table_step(number: int = 0) -> str:
    return vertical.named(vertical.TABLE, number)


def charges_of(world: Joint, party: str) -> list[Any]:
    return list(PrivacyBook(world.keeps[party]).spent().charges)
