"""The inverted join table: the bank finds its enterprises, the partner learns nothing of which.

Specification: training protocol, step B3. The partner makes one table for each bank, with one entry per
enterprise that it lists, under a fresh ``K_tab`` and a fresh 32-byte ``s_T``. For a row with VOPRF output y and
bits b, ``ek = HKDF-Extract(K_tab, y)`` (RFC 5869, SHA-256) and ::

    entry = X(ek, "tag")[:16] ‖ ((b ⊕ ζ_slot) ⊕ X(ek, "pad"))

sorted by tag; the *slot*, an entry's position, is what bank, partner and T share from here on. ζ is expanded
from s_T, a column of bits per component, in blocks of 65,536 slots. The number of entries is rounded up to
three significant bits; the rows that are added are uniform bytes, expanded from s_T. The bank receives K_tab
and the table, T receives s_T, the partner keeps both. A publication (step B8) is the same table without ζ.

Invariants:
    - Slots are in the order of pseudorandom tags: they say nothing of an identifier or of another bank's slots.
    - The bank refuses a table with a repeated or misplaced tag or a wrong length, by a rule that never looks
      at its own enterprises. Nothing that depends on a match can abort: an entry holds no checksum, any bytes
      open as bits. A poisoned entry therefore does not tell who is a client.
    - Opening a row takes its VOPRF output *and* s_T: the bank, without s_T, gets uniform bits; T, without
      outputs, gets nothing.
    - The same rows under the same keys make the same table, byte for byte; other rows need fresh keys.
    - Memory is bounded by a block on both sides: the partner spools rows by the first bits of their tags
      (to the caller's `Spool`), sorts part by part, and sends block by block.

What each party learns: the bank which of its own identifiers the partner lists, and the rounded size of the
table; T the rounded size. Not protected: rows that the partner invents; a bank and T together read the bits
of the rows that the bank asked for.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from protocol import labels
from protocol.errors import ProtocolError
from protocol.group import spread
from protocol.labels import KEY_BYTES, Label
from protocol.voprf import OUTPUT_BYTES

TAG_BYTES = 16
BLOCK = 1 << 16
"""Slots of a block: the unit in which tables and products stream."""

KINDS = ("join", "publication")
MAXIMUM_WIDTH = 8 * KEY_BYTES


def bucketed(count: int) -> int:
    """Return a count rounded up to three significant bits.

    Raises:
        ProtocolError: ``TABLE_SHAPE`` for less than one.
    """
    if count < 1:
        raise ProtocolError("TABLE_SHAPE", "There is nothing to count.")
    step = 1 << max(0, count.bit_length() - 3)
    return -(-count // step) * step


@dataclass(frozen=True)
class Table:
    """Place and shape of a table; public between the parties that use it.

    Attributes:
        job: the manifest's digest J, or a publication's identifier.
        attempt: attempt of the stage.
        bank: who reads it.
        partner: who makes it.
        slots: number of entries, rounded (`bucketed`).
        width: bits a row, up to 256.
        kind: "join" or "publication".
    """

    job: str
    attempt: int
    bank: str
    partner: str
    slots: int
    width: int
    kind: str = "join"

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not self.bank or not self.partner:
            raise ProtocolError("TABLE_SHAPE", "A table names its kind, its bank and its partner.")
        if type(self.slots) is not int or type(self.width) is not int:
            raise ProtocolError("TABLE_SHAPE", "Slots and width of a table are whole numbers.")
        if self.slots < 1 or bucketed(self.slots) != self.slots or not 1 <= self.width <= MAXIMUM_WIDTH:
            raise ProtocolError(
                "TABLE_SHAPE", "A table has a rounded number of slots and 1 to 256 bits a row."
            )
        self.label("shape")

    def label(self, use: str, vector: str = "") -> Label:
        """Return a label of this table."""
        return Label(f"{self.kind}/{use}", self.job, self.attempt, 0, self.bank, self.partner, vector)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row's bits."""
        return -(-self.width // 8)

    @property
    def entry_bytes(self) -> int:
        """Bytes of an entry."""
        return TAG_BYTES + self.row_bytes

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.slots // BLOCK)

    def block_slots(self, block: int) -> int:
        """Return the number of slots of a block."""
        return min(BLOCK, self.slots - block * BLOCK)


def zeta(table: Table, share_seed: bytes, component: int, block: int) -> NDArray[np.uint8]:
    """Return the bits ζ of one component in one block, shape (slots of the block,)."""
    n = table.block_slots(block)
    key = labels.derive(share_seed, table.label("zeta", f"{component}/{block}"))
    return np.unpackbits(np.frombuffer(labels.keystream(key, -(-n // 8)), dtype=np.uint8), count=n)


def _zeta_rows(table: Table, share_seed: bytes, block: int) -> NDArray[np.uint8]:
    """Return ζ of a block as packed rows, shape (slots of the block, row_bytes)."""
    columns = [zeta(table, share_seed, component, block) for component in range(table.width)]
    return np.packbits(np.stack(columns, axis=1), axis=1)


def _secrets_of(tag: Label, pad: Label, table_key: bytes, outputs: Sequence[bytes]) -> list[bytes]:
    """Return tag ‖ pad for each VOPRF output, 48 bytes."""
    found: list[bytes] = []
    for output in outputs:
        if len(output) != OUTPUT_BYTES:
            raise ProtocolError("TABLE_OUTPUT", f"A VOPRF output has {OUTPUT_BYTES} bytes.")
        ek = hmac.digest(table_key, output, "sha256")
        found.append(labels.derive(ek, tag)[:TAG_BYTES] + labels.derive(ek, pad))
    return found


def _entries(
    table: Table, table_key: bytes, outputs: Sequence[bytes], pool: Executor | None
) -> tuple[NDArray[np.bytes_], NDArray[np.uint8]]:
    """Return tags, shape (n,), and pads, shape (n, row_bytes), of VOPRF outputs."""
    if len(table_key) != KEY_BYTES:
        raise ProtocolError("LABEL_KEY", f"A table's key has {KEY_BYTES} bytes.")
    derive = partial(_secrets_of, table.label("tag"), table.label("pad"), table_key)
    found: list[bytes] = spread(derive, outputs, pool)
    whole = np.frombuffer(b"".join(found), dtype=np.uint8).reshape(len(outputs), TAG_BYTES + KEY_BYTES)
    return _tags(whole), whole[:, TAG_BYTES : TAG_BYTES + table.row_bytes]


def _tags(entries: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Return the first 16 bytes of rows as strings, which numpy orders as bytes; shape (n,)."""
    return np.ascontiguousarray(entries[:, :TAG_BYTES]).view("S16").reshape(-1)


class Spool(Protocol):
    """Where a partner keeps rows until it sorts them: numbered parts of about a block each."""

    def append(self, part: int, data: bytes) -> None:
        """Add bytes to a part."""

    def read(self, part: int) -> bytes:
        """Return all bytes of a part, none if nothing was added."""


class MemorySpool:
    """A spool in memory, for tables that fit."""

    def __init__(self) -> None:
        self._parts: dict[int, list[bytes]] = {}

    def append(self, part: int, data: bytes) -> None:
        """Add bytes to a part."""
        self._parts.setdefault(part, []).append(data)

    def read(self, part: int) -> bytes:
        """Return all bytes of a part."""
        return b"".join(self._parts.get(part, ()))


class Writer:
    """The partner's side: takes rows in any order and blocks, gives the table block by block."""

    def __init__(
        self, table: Table, rows: int, *, table_key: bytes, share_seed: bytes | None, spool: Spool
    ) -> None:
        """Begin a table.

        Args:
            table: its place and shape; ``table.slots`` is ``bucketed(rows)``.
            rows: the partner's rows.
            table_key: K_tab, 32 fresh random bytes.
            share_seed: s_T, 32 fresh random bytes; None for a publication.
            spool: empty.

        Raises:
            ProtocolError: ``TABLE_SHAPE`` if slots don't fit the rows, or a join lacks its share seed;
                ``LABEL_KEY``.
        """
        if table.slots != bucketed(rows) or (share_seed is None) != (table.kind == "publication"):
            raise ProtocolError(
                "TABLE_SHAPE", "A table's slots are its rows rounded; a join has a share seed."
            )
        if len(table_key) != KEY_BYTES or (share_seed is not None and len(share_seed) != KEY_BYTES):
            raise ProtocolError("LABEL_KEY", f"A table's key and seed have {KEY_BYTES} bytes.")
        self._table = table
        self._rows = rows
        self._key = table_key
        self._seed = share_seed
        self._spool = spool
        self._shift = 16 - (table.blocks - 1).bit_length()
        self._added = 0

    def add(self, outputs: Sequence[bytes], bits: NDArray[np.uint8], pool: Executor | None = None) -> None:
        """Take rows.

        Args:
            outputs: the partner's VOPRF outputs under this bank's key, shape (n,).
            bits: zeros and ones, shape (n, width).
            pool: the caller's executor; only processes gain here.

        Raises:
            ProtocolError: ``TABLE_ROWS`` for another shape, other numbers, or more rows than announced.
        """
        table = self._table
        if bits.dtype != np.uint8 or bits.shape != (len(outputs), table.width) or (bits > 1).any():
            raise ProtocolError("TABLE_ROWS", "A table takes one row of bits for every output.")
        self._added += len(outputs)
        if self._added > self._rows:
            raise ProtocolError("TABLE_ROWS", "A table gets more rows than were announced.")
        if not outputs:
            return
        tags, pads = _entries(table, self._key, outputs, pool)
        rows = np.packbits(bits, axis=1)
        pad, seed = table.label("pad"), self._seed or b""
        for output, row in zip(outputs, rows, strict=True):
            # The pad covers bit ⊕ ζ; ζ is a function of the seed, so the seed stands for it in the ledger.
            labels.used(hmac.digest(self._key, output, "sha256"), pad, row.tobytes() + seed)
        self._spread(np.concatenate([tags.view(np.uint8).reshape(-1, TAG_BYTES), rows ^ pads], axis=1))

    def _spread(self, entries: NDArray[np.uint8]) -> None:
        parts = (entries[:, 0].astype(np.intp) << 8 | entries[:, 1]) >> self._shift
        order = np.argsort(parts, kind="stable")
        entries, parts = entries[order], parts[order]
        for part in np.unique(parts):
            low, high = np.searchsorted(parts, [part, part + 1])
            self._spool.append(int(part), entries[low:high].tobytes())

    def chunks(self) -> Iterator[bytes]:
        """Give the table's blocks in order; call it once, after all rows.

        Raises:
            ProtocolError: ``TABLE_ROWS`` if rows are missing, ``TABLE_TAG_REPEATED`` if an enterprise stands
                twice.
        """
        table = self._table
        if self._added != self._rows:
            raise ProtocolError("TABLE_ROWS", "A table lacks rows that were announced.")
        for at in range(self._rows, table.slots, BLOCK):
            filler = self._filler(at, min(BLOCK, table.slots - at) * table.entry_bytes)
            self._spread(np.frombuffer(filler, dtype=np.uint8).reshape(-1, table.entry_bytes))
        waiting, block = bytearray(), 0
        for part in range((0xFFFF >> self._shift) + 1):
            waiting += self._sorted(self._spool.read(part))
            while block < table.blocks and len(waiting) >= table.block_slots(block) * table.entry_bytes:
                size = table.block_slots(block) * table.entry_bytes
                yield self._shared(bytes(waiting[:size]), block)
                del waiting[:size]
                block += 1

    def _filler(self, at: int, n: int) -> bytes:
        """Return uniform bytes for the rows that are added.

        Those of a join come from s_T, which the bank doesn't have, so that a table that is made again after a
        crash is the same table: other fillers would move rows to other slots under the same ζ, and the bank
        would read the difference of two rows' bits.
        """
        if self._seed is None:
            return secrets.token_bytes(n)
        return labels.keystream(labels.derive(self._seed, self._table.label("filler", str(at))), n)

    def _sorted(self, data: bytes) -> bytes:
        entries = np.frombuffer(data, dtype=np.uint8).reshape(-1, self._table.entry_bytes)
        tags = _tags(entries)
        order = np.argsort(tags, kind="stable")
        if (tags[order][1:] == tags[order][:-1]).any():
            raise ProtocolError("TABLE_TAG_REPEATED", "An enterprise stands in the table twice.")
        return entries[order].tobytes()

    def _shared(self, data: bytes, block: int) -> bytes:
        """Put ζ over a block's rows."""
        if self._seed is None:
            return data
        labels.used(self._seed, self._table.label("zeta", str(block)), data)
        entries = np.frombuffer(data, dtype=np.uint8).reshape(-1, self._table.entry_bytes).copy()
        entries[:, TAG_BYTES:] ^= _zeta_rows(self._table, self._seed, block)
        return entries.tobytes()


@dataclass(frozen=True)
class Matched:
    """What a bank found in a table, in the order of slots.

    Attributes:
        rows: which of the bank's outputs, shape (c,).
        slots: where, shape (c,), ascending.
        shares: the bank's shares u = bit ⊕ ζ (the bits themselves in a publication), shape (c, width).
    """

    rows: NDArray[np.int64]
    slots: NDArray[np.int64]
    shares: NDArray[np.uint8]


class Reader:
    """The bank's side: takes the table block by block, checks it, finds its own rows."""

    def __init__(
        self, table: Table, outputs: Sequence[bytes], *, table_key: bytes, pool: Executor | None = None
    ) -> None:
        """Begin to read.

        Args:
            table: the place and shape that were agreed.
            outputs: the bank's own VOPRF outputs, shape (n,), dummies left out.
            table_key: K_tab as the partner sent it.
            pool: the caller's executor.

        Raises:
            ProtocolError: ``TABLE_OWN_REPEATED`` if an enterprise of the bank stands twice, ``TABLE_OUTPUT``,
                ``LABEL_KEY``.
        """
        tags, pads = _entries(table, table_key, outputs, pool)
        order = np.argsort(tags, kind="stable")
        self._tags, self._pads, self._order = tags[order], pads[order], order.astype(np.int64)
        if (self._tags[1:] == self._tags[:-1]).any():
            raise ProtocolError("TABLE_OWN_REPEATED", "An enterprise stands among the bank's rows twice.")
        self._table = table
        self._block = 0
        self._last: NDArray[np.bytes_] = np.zeros(0, dtype="S16")
        self._found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]] = []

    def feed(self, chunk: bytes) -> None:
        """Take the next block.

        Raises:
            ProtocolError: ``TABLE_LENGTH`` for a block of another length or one too many,
                ``TABLE_TAG_REPEATED``, ``TABLE_ORDER``: all independent of the bank's rows.
        """
        table = self._table
        if self._block >= table.blocks or len(chunk) != table.block_slots(self._block) * table.entry_bytes:
            raise ProtocolError("TABLE_LENGTH", "A table's block has another length than was agreed.")
        entries = np.frombuffer(chunk, dtype=np.uint8).reshape(-1, table.entry_bytes)
        tags = _tags(entries)
        ordered = np.concatenate([self._last, tags])
        if (ordered[1:] == ordered[:-1]).any():
            raise ProtocolError("TABLE_TAG_REPEATED", "A tag stands in a table twice.")
        if (ordered[1:] < ordered[:-1]).any():
            raise ProtocolError("TABLE_ORDER", "A table is not sorted by tag.")
        self._last = tags[-1:]
        at = np.searchsorted(tags, self._tags)
        own = np.flatnonzero((at < len(tags)) & (tags[np.minimum(at, len(tags) - 1)] == self._tags))
        rows = entries[at[own], TAG_BYTES:] ^ self._pads[own]
        self._found.append(
            (
                self._order[own],
                at[own].astype(np.int64) + self._block * BLOCK,
                np.unpackbits(rows, axis=1, count=table.width),
            )
        )
        self._block += 1

    def finish(self) -> Matched:
        """Return the matches of the whole table.

        Raises:
            ProtocolError: ``TABLE_LENGTH`` if blocks are missing.
        """
        if self._block != self._table.blocks:
            raise ProtocolError("TABLE_LENGTH", "A table lacks blocks.")
        rows, slots, shares = (np.concatenate(parts) for parts in zip(*self._found, strict=True))
        return Matched(rows, slots, shares)
