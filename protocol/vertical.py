"""How stages V and P run between the parties: shapes, places, seals and steps of their messages.

Specification: training protocol, "A job" and steps B2 to B8. Each step's own file says what is computed; this one says
what bank, partner and T must agree on to compute it together::

    partner → bank, T   state         whether this job's release was read in an earlier attempt
    bank → partner      ask.*         blinded points, padded with dummies           (voprf)
    partner → bank      answer.*      evaluated points with a proof
    partner → bank      table-key     K_tab, sealed;  table.*  the table            (join)
    partner → T         share-seeds   s_T for each bank, sealed
    bank → partner      pad-seed      s_U, sealed
    bank → T            dense.*       D, or nothing: this bank leaves the partner out (product)
    bank → T            signature     the release's roster, signed and charged      (partner_opening)
    bank → partner      share         masked share
    T → partner         opening       T's masked share with the signed roster, or nothing
    partner → bank      publication   signed: the table's root, or that nothing is published
    partner → bank      bins-key, bins.*    the sub-scores' table, sealed key       (join)

Invariants:
    - Places and shapes are functions of the manifest, so that nobody is told a shape that it can't check.
    - A seal names job, attempt, step and both ends: it opens nowhere else.
    - Pieces of a long message are cut alike on both sides.

What each party learns: nothing here beyond names and sizes, which the manifest bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from protocol import ring, sealing
from protocol.canonical import lp
from protocol.errors import ProtocolError
from protocol.job import Manifest, PartnerTerms, Vertical
from protocol.join import Table
from protocol.labels import Label
from protocol.opening import Roster
from protocol.partner_opening import ReleaseRoster
from protocol.product import WIDTH, Product, label_weights
from protocol.release import Release
from protocol.sealing import SealingKey
from protocol.subscore import BINS
from protocol.voprf import MAXIMUM_BATCH

STATE, PUBLICATION = "state", "publication"
ASK, ANSWER = "ask", "answer"
TABLE_KEY, TABLE, SHARE_SEEDS = "table-key", "table", "share-seeds"
PAD_SEED, DENSE, SIGNATURE, SHARE, OPENING = "pad-seed", "dense", "signature", "share", "opening"
BINS_KEY, BINS_TABLE = "bins-key", "bins"
TRAINING, SERVING = "training", "serving"

PIECE_BYTES = 8 << 20
"""A long message goes in pieces of about this length."""

BIN_BITS = (BINS - 1).bit_length()


def named(step: str, *parts: object) -> str:
    """Return the name of a step's message that needs more than the step, such as ``dense.shop.3``."""
    return ".".join([step, *map(str, parts)])


def terms_of(manifest: Manifest, partner: str) -> PartnerTerms:
    """Return what a partner has stated.

    Raises:
        ProtocolError: ``MANIFEST_PARTNER`` if it has stated nothing.
    """
    terms = manifest.enlistment(partner).partner
    if terms is None:
        raise ProtocolError("MANIFEST_PARTNER", f"{partner} states no terms as a partner.")
    return terms


def join_table(roster: Roster, bank: str, partner: str, terms: PartnerTerms) -> Table:
    """Return place and shape of the table that a bank reads in an attempt."""
    return Table(roster.job, roster.attempt, bank, partner, terms.slots, terms.components)


def bins_table(roster: Roster, bank: str, partner: str, slots: int) -> Table:
    """Return place and shape of the table of sub-score bins."""
    return Table(roster.job, roster.attempt, bank, partner, slots, BIN_BITS, "publication")


def product_of(table: Table) -> Product:
    """Return the product on a table."""
    return Product(table)


def release_of(vertical: Vertical, banks: int, components: int) -> Release | None:
    """Return the private release to a partner, None where the job opens exactly.

    Args:
        vertical: the job's terms.
        banks: banks of the job, of whom all may hold one enterprise unless the terms say otherwise.
        components: k of the partner.
    """
    if vertical.epsilon is None:
        return None
    members = vertical.memberships or banks
    return Release(components, vertical.base_rate, members, vertical.epsilon, vertical.delta)


def check_headroom(terms: Vertical, banks: int) -> None:
    """Refuse terms under which a sum and its noise could wrap in the ring.

    Raises:
        ProtocolError: ``RING_WRAP``.
    """
    private = release_of(terms, banks, terms.components)
    if private is not None:
        private.check_headroom(terms.rows)
        return
    largest = max(abs(weight) for weight in label_weights(terms.base_rate))
    ring.check_headroom(terms.rows, float(largest), 0, 0.0, WIDTH)


def release_roster(roster: Roster, vertical: Vertical, partner: str) -> ReleaseRoster:
    """Return who takes part in the release to a partner."""
    return ReleaseRoster(roster, vertical.compute, partner)


def ask_label(roster: Roster, bank: str, partner: str, purpose: str, batch: int) -> Label:
    """Return the label of a batch of blinded points."""
    return Label(f"voprf/{purpose}", roster.job, roster.attempt, 0, bank, partner, str(batch))


def batches(count: int) -> list[range]:
    """Cut a number of points into batches of at most 65,535."""
    return [range(at, min(count, at + MAXIMUM_BATCH)) for at in range(0, count, MAXIMUM_BATCH)]


def pieces(lengths: Sequence[int], limit: int = PIECE_BYTES) -> list[range]:
    """Return which chunks travel together, in order.

    Args:
        lengths: bytes of each chunk.
        limit: bytes of a piece, unless a single chunk is longer.
    """
    found: list[range] = []
    start = size = 0
    for place, length in enumerate(lengths):
        if place > start and size + length > limit:
            found.append(range(start, place))
            start, size = place, 0
        size += length
    return [*found, range(start, len(lengths))] if lengths else found


def joined(chunks: Iterable[bytes], cut: Sequence[range]) -> Iterator[bytes]:
    """Give the pieces of chunks that come in order."""
    source = iter(chunks)
    for part in cut:
        yield b"".join(next(source) for _ in part)


def split(piece: bytes, lengths: Sequence[int], what: str) -> Iterator[bytes]:
    """Give the chunks of one piece.

    Raises:
        ProtocolError: ``PIECE_LENGTH`` if it has another length than was agreed.
    """
    if len(piece) != sum(lengths):
        raise ProtocolError("PIECE_LENGTH", f"A part of {what} has another length than was agreed.")
    at = 0
    for length in lengths:
        yield piece[at : at + length]
        at += length


def table_lengths(table: Table) -> list[int]:
    """Return the bytes of a table's blocks."""
    return [table.block_slots(block) * table.entry_bytes for block in range(table.blocks)]


def dense_lengths(product: Product) -> list[int]:
    """Return the bytes of the chunks of D."""
    return [product.chunk_bytes(chunk) for chunk in range(product.chunks)]


def seal(manifest: Manifest, roster: Roster, step: str, sender: str, recipient: str, data: bytes) -> bytes:
    """Seal a payload for a party of the job."""
    public = bytes.fromhex(manifest.enlistment(recipient).sealing_key)
    return sealing.seal(public, data, info=_info(roster, step), aad=lp(sender, recipient))


def unseal(key: SealingKey, roster: Roster, step: str, sender: str, recipient: str, data: bytes) -> bytes:
    """Open a payload that a party of the job has sealed for this one.

    Raises:
        ProtocolError: as `SealingKey.open`.
    """
    return key.open(data, info=_info(roster, step), aad=lp(sender, recipient))


def _info(roster: Roster, step: str) -> bytes:
    return lp("concordat/v1", "vertical", step, roster.job, roster.attempt)
