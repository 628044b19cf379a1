"""A member's judgement: which checkpoints it stands by, and when it stops. No I/O but its own book.

Invariants:
    - It cosigns only what its own replay composed, byte for byte, and only on top of its own last checkpoint.
    - A statement of the operator more than the tolerance off the member's clock is not used at all.
    - The first contradiction is written to the book, and from then on it signs nothing and calls nothing final.
    - Final: more than two thirds of the members cosigned the same text, and the cosignatures of others were pulled
      from at least two peers (from all, if there are fewer), not only from the operator.

Not protected: a member that is cut off from everybody knows only that it is; `as_of` tells how old its view is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.engine import evidence
from ledger.engine.checkpoints import Book, halted
from ledger.engine.evidence import Evidence, Statement
from ledger.engine.genesis import Genesis
from ledger.engine.port import MAX_BLOCK_TRANSACTIONS
from ledger.engine.records import BlockRecord
from ledger.engine.transactions import parse
from protocol.checkpoint import Checkpoint, Note, cosign, is_quorum
from protocol.errors import ConcordatError, ConfigurationError, LedgerError, ProtocolError, Unavailable

SOURCES = 2
"""Peers from whom cosignatures must have come."""


@dataclass(frozen=True)
class Final:
    """What a member calls final.

    Attributes:
        note: the checkpoint with all cosignatures known.
        size: records it covers.
        as_of: Unix seconds; more than two thirds of the members stated at or after this time that their
            newest checkpoint covers at least `size`.
        behind: whether a peer has seen a block, older than the tolerance, that this member has not.
    """

    note: Note
    size: int
    as_of: int
    behind: bool


class Witness:
    """One member's rules and memory."""

    def __init__(
        self,
        genesis: Genesis,
        book: Book,
        name: str,
        key: Ed25519PrivateKey,
        clock: Callable[[], float],
    ) -> None:
        self._keys = genesis.member_keys()
        if name not in self._keys or self._keys[name].public.raw != key.public_key().public_bytes_raw():
            raise ConfigurationError(
                "NOT_A_MEMBER", "The checkpoint key here is not that of this member in the genesis document."
            )
        self.genesis = genesis
        self.book = book
        self.name = name
        self._key = key
        self._clock = clock
        self._deployment_blocks = -(-len(genesis.deployments) // MAX_BLOCK_TRANSACTIONS)
        self._fresh: dict[str, tuple[int, int]] = {}
        self._sources: set[str] = set()
        self._ahead: dict[str, Statement] = {}
        self._seen_operator = 0
        observed = book.observation
        self._observed = None if observed is None else evidence.read(observed, genesis)
        self._final_size = 0

    @property
    def now(self) -> int:
        """This member's clock in Unix seconds."""
        return int(self._clock())

    def check_running(self) -> None:
        """Raise if this member has stopped.

        Raises:
            LedgerError: ``LEDGER_HALTED``.
        """
        if self.book.evidence():
            raise halted()

    def accuse(self, kind: str, detail: str, *notes: Note) -> LedgerError:
        """Keep evidence, stop, and return the error to raise."""
        self.book.stop(Evidence(kind, tuple(note.encode() for note in notes), detail))
        return halted()

    def observe(self, statement: Statement) -> None:
        """Judge the operator's newest statement.

        Raises:
            Unavailable: ``CHECKPOINT_STALE`` if its timestamp is missing or off this member's clock.
            LedgerError: ``LEDGER_HALTED`` if it contradicts what the operator stated before.
        """
        self.check_running()
        now, tolerance = self.now, self.genesis.clock_tolerance
        if statement.time is None or abs(statement.time - now) > tolerance:
            raise Unavailable(
                "CHECKPOINT_STALE",
                "The operator's statement carries no timestamp near this member's time.",
                "Check both clocks. Nothing new is signed meanwhile.",
            )
        if statement.checkpoint.time > now + tolerance:
            raise self.accuse("CLOCK", "A block is dated into the future.", statement.note)
        self.check_known(statement)

    def settle(self, statement: Statement) -> None:
        """Remember the operator's newest statement, once everything under it was replayed and cosigned.

        Not earlier: until then the records are judged by the statement before, at which they did not exist.
        """
        self.check_running()
        self.book.observe(statement.note)
        self._observed = statement
        self._seen_operator = self.now

    def _memory(self, statement: Statement) -> list[Statement]:
        """Return what this member holds that the statement could contradict."""
        notes = [self.book.at(statement.size), self.book.following(statement.checkpoint.previous)]
        last = self.book.last
        notes.append(None if last is None else self.book.at(last.size))
        found = [evidence.read(note.encode(), self.genesis) for note in notes if note is not None]
        return found if self._observed is None else [*found, self._observed]

    def _compare(self, first: Statement, second: Statement) -> None:
        kind = evidence.contradiction(first, second, self.genesis)
        if kind is not None:
            raise self.accuse(
                kind, "The operator's statements contradict each other.", first.note, second.note
            )

    def check_known(self, statement: Statement) -> None:
        """Compare a statement once more with what this member stands by.

        Raises:
            LedgerError: ``LEDGER_HALTED``.
        """
        for other in (statement, *self._memory(statement)):
            self._compare(other, statement)

    def check_next(self, statement: Statement) -> None:
        """Judge a checkpoint that the operator offers as the next one.

        Raises:
            LedgerError: ``LEDGER_HALTED`` if it is none.
        """
        self.check_running()
        self.check_known(statement)
        size, digest = self.book.tip
        if statement.size <= size or statement.checkpoint.previous != digest:
            last = self.book.at(size)
            raise self.accuse(
                "NOT_AN_EXTENSION",
                "The operator's next checkpoint does not extend the last one cosigned here.",
                *([] if last is None else [last]),
                statement.note,
            )

    def check_record(self, record: BlockRecord, previous_time: int, statement: Statement) -> None:
        """Judge a record under an offered checkpoint.

        Raises:
            LedgerError: ``LEDGER_HALTED`` if no honest operator writes it.
        """
        problem = self._record_problem(record, previous_time)
        if problem is not None:
            raise self.accuse("RECORD_FORBIDDEN", f"Record {record.number}: {problem}", statement.note)

    def _record_problem(self, record: BlockRecord, previous_time: int) -> str | None:
        if record.time < previous_time:
            return "its time lies before that of the block before."
        if record.time > self.now + self.genesis.clock_tolerance:
            return "its time lies in the future."
        seen = self._observed
        stated = 0 if seen is None or record.number < seen.size else seen.time or 0
        if record.time < stated - self.genesis.clock_tolerance:
            return "its time lies before the operator stated that no such block existed."
        first = (record.number - 1) * MAX_BLOCK_TRANSACTIONS
        if record.number <= self._deployment_blocks:
            if record.raws != self.genesis.deployments[first : first + MAX_BLOCK_TRANSACTIONS]:
                return "it is not the genesis document's deployment."
            return None
        try:
            for raw in record.raws:
                parse(raw, self.genesis.chain.chain_id)
        except LedgerError as error:
            return f"it holds a forbidden transaction ({error.code})."
        return None

    def disagree(self, cause: ConcordatError, statement: Statement) -> LedgerError:
        """Keep the finding that a checkpoint is not what its log replays to; return the error to raise."""
        detail = f"Replaying the log does not give this checkpoint ({cause.code})."
        return self.accuse("REPLAY_DIFFERS", detail, statement.note)

    def accept(self, statement: Statement, own: Checkpoint) -> None:
        """Stand by a checkpoint that was replayed, durably, then cosign it.

        Raises:
            LedgerError: ``LEDGER_HALTED``.
        """
        if own.text != statement.note.text:
            cause = ProtocolError("CHECKPOINT_TEXT", "Own replay composes another text.")
            raise self.disagree(cause, statement)
        operator = self.genesis.operator_key()
        signed = next(
            each
            for each in statement.note.signatures
            if each.name == operator.name and each.blob[:4] == operator.identifier
        )
        mine = cosign(own.text, self._keys[self.name].name, self._key, self.now)
        self.book.add(own, signed, (self.name, mine))

    def latest(self) -> str:
        """Return the newest checkpoint, cosigned as of the last time the operator was seen.

        Raises:
            LedgerError: ``LEDGER_HALTED``.
            Unavailable: ``CHECKPOINT_NONE``.
        """
        self.check_running()
        note = self.book.at(self.book.tip[0])
        if note is None:
            raise Unavailable("CHECKPOINT_NONE", "This member has cosigned nothing yet.")
        if self._seen_operator:
            note = note.plus(cosign(note.text, self._keys[self.name].name, self._key, self._seen_operator))
        return note.encode()

    def hear(self, peer: str, statement: Statement) -> None:
        """Judge what a peer has cosigned, and count it.

        Raises:
            SignatureInvalid: ``NOTE_UNSIGNED`` if the peer's cosignature is missing.
            LedgerError: ``LEDGER_HALTED`` if the operator told the peer something else.
        """
        self.check_running()
        if peer not in statement.members:
            raise ProtocolError("PEER_UNSIGNED", "A peer shows a checkpoint that it has not cosigned.")
        self.check_known(statement)
        size = self.book.tip[0]
        if statement.size > size:
            self._ahead[peer] = statement
        else:
            self._ahead.pop(peer, None)
            if self.book.at(statement.size) is None:
                raise self.accuse(
                    "NOT_AN_EXTENSION",
                    "A peer cosigned a checkpoint that is not in this member's chain.",
                    statement.note,
                )
            key = self._keys[peer]
            for each in statement.note.signatures:
                if each.name == key.name and each.blob[:4] == key.identifier:
                    self.book.cosign(statement.size, peer, each)
            self._sources.add(peer)
        stamp = min(statement.members[peer], self.now)
        if stamp >= self._fresh.get(peer, (0, 0))[0]:
            self._fresh[peer] = (stamp, statement.size)

    def hear_evidence(self, found: Evidence) -> None:
        """Take over evidence that proves itself; ignore what does not.

        Raises:
            LedgerError: ``LEDGER_HALTED`` if it was proven.
        """
        try:
            evidence.judge(found, self.genesis)
        except ConcordatError:
            return
        self.book.stop(found)
        raise halted()

    def final(self) -> Final:
        """Return the largest final checkpoint.

        Raises:
            LedgerError: ``LEDGER_HALTED``.
            Unavailable: ``NOT_FINAL``.
        """
        self.check_running()
        others = len(self._keys) - 1
        everybody = len(self._keys)
        if len(self._sources) < min(SOURCES, others):
            raise _not_final("cosignatures have not yet come from two peers")
        for size, members in self.book.counts(self._final_size):
            if is_quorum(len(members & self._keys.keys()), everybody):
                note = self.book.at(size)
                if note is not None:
                    self._final_size = size
                    return Final(note, size, self._as_of(size, everybody), self._is_behind())
        raise _not_final("no checkpoint has the cosignatures of more than two thirds of the members")

    def _as_of(self, size: int, everybody: int) -> int:
        mine = (self._seen_operator, self.book.tip[0])
        views = [*self._fresh.values(), mine]
        stamps = sorted((stamp for stamp, covered in views if covered >= size), reverse=True)
        return next((stamp for at, stamp in enumerate(stamps, 1) if is_quorum(at, everybody)), 0)

    def _is_behind(self) -> bool:
        limit = self.now - self.genesis.clock_tolerance
        return any(
            each.size > self.book.tip[0] and each.checkpoint.time < limit for each in self._ahead.values()
        )


def _not_final(cause: str) -> Unavailable:
    return Unavailable(
        "NOT_FINAL", f"Nothing is final here yet: {cause}.", "Wait, and look at the peers' health."
    )
