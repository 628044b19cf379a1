"""A small world of the vertical protocol in one process: three or four banks, T, a partner, with stated keys.

Everything that crosses is recorded, so that a test can look at a party's view, change it, or explain it away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol import join, product
from protocol.join import Matched, MemorySpool, Reader, Table, Writer, bucketed
from protocol.keys import IdentityKey
from protocol.opening import Roster
from protocol.partner_opening import BankShares, ComputeShares, PartnerOpening, ReleaseRoster, gather, sign
from protocol.product import ComputeSums, DenseBook, Product
from protocol.release import SpentPrivacy

BANKS = ("bank-a", "bank-b", "bank-c", "bank-d")
COMPUTE, PARTNER = "compute", "shop"
BASE_RATE = 0.22
IDENTITIES = {name: IdentityKey.generate() for name in (*BANKS, COMPUTE, PARTNER)}
PUBLIC = {name: key.public for name, key in IDENTITIES.items()}


def key(*parts: object) -> bytes:
    """32 stated bytes."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).digest()


def output(bank: str, name: object) -> bytes:
    """What stands for the VOPRF's output under a bank's key."""
    return hashlib.sha512(f"{bank}/{name}".encode()).digest()


def pair_keys(own: str, parties: Sequence[str] = (*BANKS, COMPUTE)) -> dict[str, bytes]:
    return {peer: key("pair", *sorted((own, peer))) for peer in parties if peer != own}


def roster_of(banks: Sequence[str] = BANKS[:3], attempt: int = 0, partner: str = PARTNER) -> ReleaseRoster:
    return ReleaseRoster(Roster.of("job-1", attempt, banks), COMPUTE, partner)


def signed_by(roster: ReleaseRoster, signers: Sequence[str] | None = None) -> dict[str, Any]:
    parts = [
        sign(roster, signer=name, key=IDENTITIES[name], spent=SpentPrivacy(), cohort="c", mu=0.2)
        for name in (roster.parties if signers is None else signers)
    ]
    return gather(parts)


@dataclass
class World:
    """What the parties hold.

    Attributes:
        names: the partner's enterprises, shape (n,).
        bits: their sign bits, shape (n, k).
        cohorts: a bank's enterprises.
        outcomes: whether they defaulted.
    """

    names: list[str]
    bits: NDArray[np.uint8]
    cohorts: dict[str, list[str]]
    outcomes: dict[str, NDArray[np.bool_]]
    tag: str = "world"
    width: int = 40
    attempt: int = 0
    tables: dict[str, list[bytes]] = field(default_factory=dict)
    matches: dict[str, Matched] = field(default_factory=dict)
    dense: dict[str, list[bytes]] = field(default_factory=dict)
    compute: dict[str, NDArray[np.uint64]] = field(default_factory=dict)

    @classmethod
    def random(
        cls, seed: int, n: int = 60, k: int = 4, rows: int = 50, coverage: float = 0.7, **more: Any
    ) -> World:
        """A world whose banks hold the stated number of rows, of which the partner lists a share."""
        draw = np.random.Generator(np.random.PCG64(seed))
        names = [f"e{seed}-{i}" for i in range(n)]
        cohorts, outcomes = {}, {}
        for bank in BANKS:
            listed = min(round(rows * coverage), n)
            cohorts[bank] = [names[i] for i in draw.permutation(n)[:listed]] + [
                f"{bank}-{seed}-{i}" for i in range(rows - listed)
            ]
            outcomes[bank] = draw.random(rows) < BASE_RATE
        bits = draw.integers(0, 2, (n, k), dtype=np.uint8)
        return cls(names, bits, cohorts, outcomes, **more)

    @property
    def k(self) -> int:
        return int(self.bits.shape[1])

    def shape(self, bank: str) -> Product:
        slots = bucketed(len(self.names))
        return Product(Table("job-1", self.attempt, bank, PARTNER, slots, self.k), self.width)

    def secret(self, use: str, bank: str) -> bytes:
        return key(self.tag, use, bank, self.attempt)

    def values(self, bank: str) -> NDArray[np.int64]:
        return product.weights(self.outcomes[bank][self.matches[bank].rows], BASE_RATE)

    def make_table(self, bank: str) -> None:
        table = self.shape(bank).table
        writer = Writer(
            table,
            len(self.names),
            table_key=self.secret("K_tab", bank),
            share_seed=self.secret("s_T", bank),
            spool=MemorySpool(),
        )
        writer.add([output(bank, name) for name in self.names], self.bits)
        self.tables[bank] = list(writer.chunks())

    def read_table(self, bank: str) -> None:
        outputs = [output(bank, name) for name in self.cohorts[bank]]
        reader = Reader(self.shape(bank).table, outputs, table_key=self.secret("K_tab", bank))
        for chunk in self.tables[bank]:
            reader.feed(chunk)
        self.matches[bank] = reader.finish()

    def send_dense(self, bank: str) -> None:
        self.dense[bank] = list(
            product.dense(
                self.shape(bank), self.matches[bank], self.values(bank), seed=self.secret("s_U", bank)
            )
        )

    def at_compute(self, bank: str, book: DenseBook | None = None) -> None:
        side = ComputeSums(self.shape(bank), share_seed=self.secret("s_T", bank))
        for chunk in self.dense[bank]:
            side.feed(chunk)
        self.compute[bank] = side.finish(DenseBook() if book is None else book)

    def join_and_multiply(self, banks: Sequence[str] = BANKS[:3]) -> World:
        for bank in banks:
            self.make_table(bank)
            self.read_table(bank)
            self.send_dense(bank)
            self.at_compute(bank)
        return self

    def bank_share(
        self,
        bank: str,
        roster: ReleaseRoster,
        noise: NDArray[np.uint64] | None = None,
        book: BankShares | None = None,
    ) -> bytes:
        return (BankShares() if book is None else book).share(
            roster,
            own=bank,
            sums=product.bank_sums(self.matches[bank], self.values(bank)),
            values=self.values(bank),
            noise=self.zero if noise is None else noise,
            pair_keys=pair_keys(bank),
            width=self.width,
        )

    def compute_share(
        self,
        signed: Mapping[str, Any],
        noise: NDArray[np.uint64] | None = None,
        book: ComputeShares | None = None,
    ) -> bytes:
        return (ComputeShares() if book is None else book).share(
            signed,
            keys=PUBLIC,
            own=COMPUTE,
            sums=self.compute,
            noise=self.zero if noise is None else noise,
            pair_keys=pair_keys(COMPUTE),
            width=self.width,
        )

    def partner_sums(self, banks: Sequence[str]) -> dict[str, NDArray[np.uint64]]:
        return {
            bank: product.partner_sums(
                self.shape(bank), seed=self.secret("s_U", bank), share_seed=self.secret("s_T", bank)
            )
            for bank in banks
        }

    def opened(
        self, roster: ReleaseRoster, noises: Mapping[str, NDArray[np.uint64]] | None = None
    ) -> NDArray[np.int64]:
        """Run the opening; noises by party, none where not stated."""
        noises = {} if noises is None else noises
        partner = PartnerOpening(roster, self.k, self.width)
        for bank in roster.roster.banks:
            partner.add(bank, self.bank_share(bank, roster, noises.get(bank)))
        partner.add(COMPUTE, self.compute_share(signed_by(roster), noises.get(COMPUTE)))
        return partner.result(self.partner_sums(roster.roster.banks))

    @property
    def zero(self) -> NDArray[np.uint64]:
        return np.zeros(self.k, dtype=np.uint64)

    def plain(self, banks: Sequence[str]) -> NDArray[np.int64]:
        """Σ a·z over the plaintext, by name and not by slot, shape (k,)."""
        row = {name: i for i, name in enumerate(self.names)}
        good, bad = product.label_weights(BASE_RATE)
        total = np.zeros(self.k, dtype=np.int64)
        for bank in banks:
            for name, outcome in zip(self.cohorts[bank], self.outcomes[bank], strict=True):
                if name in row:
                    total += (bad if outcome else good) * (2 * self.bits[row[name]].astype(np.int64) - 1)
        return total

    def contribution(self, bank: str, component: int, block: int) -> NDArray[np.uint64]:
        """c_t of a bank in one block, from the plaintext: what D hides."""
        matched, n = self.matches[bank], self.shape(bank).table.block_slots(block)
        dense = np.zeros(n, dtype=np.int64)
        for slot, share, value in zip(
            matched.slots, matched.shares[:, component], self.values(bank), strict=True
        ):
            if slot // join.BLOCK == block:
                dense[slot % join.BLOCK] = value * (1 - 2 * int(share))
        return dense.view(np.uint64)
