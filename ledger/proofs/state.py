"""From co-signed checkpoint to a word in the contract's storage.

Specification: the checkpoint (`protocol.checkpoint`) names block hash and state root; the block's header hashes to
the block hash and holds the state root (Ethereum Yellow Paper, 4.4); an account lies in the state tree under
keccak-256 of its address, a word in the account's storage tree under keccak-256 of its slot (EIP-1186).

Invariants:
    - Nothing is read from a checkpoint that the operator and more than two thirds of the members have not signed, or
      that bears a signature of anybody else.
    - Code hash and address of the account are those that the reader trusts.
    - Making and verifying run the same code; they differ in where nodes come from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from eth_hash.auto import keccak

from ledger.engine import rlp
from ledger.proofs import trie
from ledger.proofs.trust import Trust
from protocol.checkpoint import COSIGNATURE, Checkpoint, Note, cosigners, is_quorum, require_final, verify
from protocol.errors import ProtocolError, SignatureInvalid

FUTURE = 300
"""Seconds by which a signature's time may lie ahead of the reader's clock."""


@dataclass(frozen=True)
class Final:
    """A checkpoint that was found final.

    Attributes:
        checkpoint: what was signed.
        signers: members whose cosignature counts, in order.
        members: how many there are.
    """

    checkpoint: Checkpoint
    signers: tuple[str, ...]
    members: int


def final(text: str, trust: Trust, now: int, removed: Collection[str] = ()) -> Final:
    """Return what a note states once it is found final.

    Args:
        text: the note.
        trust: the ledger.
        now: the reader's clock, Unix seconds.
        removed: members whose signature no longer counts; they still count as members.

    Raises:
        ProtocolError: ``NOTE_MALFORMED``, ``CHECKPOINT_MALFORMED``, ``PROOF_FUTURE``.
        SignatureInvalid: ``NOTE_SIGNATURE``, ``NOTE_UNSIGNED``, ``PROOF_SIGNER``, ``CHECKPOINT_NOT_FINAL``,
            ``PROOF_MEMBER_REMOVED``, ``PROOF_CHECKPOINT``.
    """
    note = Note.decode(text)
    members = trust.member_keys()
    known = {trust.operator_key(), trust.operator_key(COSIGNATURE), *members.values()}
    names = {(each.name, each.identifier) for each in known}
    if any((each.name, each.blob[:4]) not in names for each in note.signatures):
        raise SignatureInvalid(
            "PROOF_SIGNER", "The checkpoint bears a signature of somebody who is no member of this ledger."
        )
    verify(note, trust.operator_key())
    times = require_final(note, members)
    counting = [name for name in members if name in times and name not in removed]
    if not is_quorum(len(counting), len(members)):
        raise SignatureInvalid(
            "PROOF_MEMBER_REMOVED", "Without the members that you no longer trust, too few have co-signed it."
        )
    checkpoint = Checkpoint.from_text(note.text)
    _check(checkpoint, trust)
    stamps = cosigners(note, {"": trust.operator_key(COSIGNATURE)})
    if max(checkpoint.time, *times.values(), *stamps.values()) > now + FUTURE:
        raise ProtocolError(
            "PROOF_FUTURE", "The proof is dated in the future.", "Check this machine's clock."
        )
    return Final(checkpoint, tuple(counting), len(members))


def _check(checkpoint: Checkpoint, trust: Trust) -> None:
    same = (
        checkpoint.origin == trust.origin
        and checkpoint.chain_id == trust.chain_id
        and checkpoint.genesis == trust.genesis
        and checkpoint.members == trust.member_set
        and checkpoint.registry == (trust.registry, trust.code_hash)
    )
    if not same:
        raise SignatureInvalid(
            "PROOF_CHECKPOINT", "The checkpoint names another ledger, contract or member set."
        )


def check_header(header: bytes, checkpoint: Checkpoint) -> None:
    """Check that a block header is the checkpoint's, and holds its state root, number and time.

    Raises:
        ProtocolError: ``PROOF_HEADER``.
    """
    wrong = ProtocolError("PROOF_HEADER", "The block header is not the one that the checkpoint covers.")
    if keccak(header) != checkpoint.block_hash:
        raise wrong
    content = [each[1] or b"" for each in rlp.items(header)]
    if len(content) < 15:
        raise wrong
    held = (content[3], int.from_bytes(content[8], "big"), int.from_bytes(content[11], "big"))
    if held != (checkpoint.state_root, checkpoint.number, checkpoint.time):
        raise wrong


def storage_root(state_root: bytes, trust: Trust, nodes: trie.Nodes) -> bytes:
    """Return the root of the registry's storage.

    Raises:
        ProtocolError: ``PROOF_ACCOUNT``, or as `trie.lookup`.
    """
    account = trie.lookup(state_root, bytes(keccak(trust.registry)), nodes)
    fields = [each[1] for each in rlp.items(account)] if account else []
    if len(fields) != 4 or fields[3] != trust.code_hash or fields[2] is None or len(fields[2]) != 32:
        raise ProtocolError("PROOF_ACCOUNT", "The registry's contract does not stand in this state.")
    return fields[2]


def word_at(root: bytes, slot: int, nodes: trie.Nodes) -> int:
    """Return a storage word; zero where the tree holds none, or (as anvil's does) a zero written out.

    Raises:
        ProtocolError: as `trie.lookup`.
    """
    value = trie.lookup(root, bytes(keccak(slot.to_bytes(32, "big"))), nodes)
    if value is None or value == b"\x80":
        return 0
    content = value if len(value) == 1 and value[0] < 0x80 else value[1:]
    if len(content) > 32 or not content or content[0] == 0 or rlp.encode_bytes(content) != value:
        raise trie.malformed()
    return int.from_bytes(content, "big")


class State(ABC):
    """The registry's storage at a final checkpoint."""

    def __init__(self, covered: Final) -> None:
        self.final = covered

    @property
    def time(self) -> int:
        """The block's time, Unix seconds."""
        return self.final.checkpoint.time

    @abstractmethod
    def word(self, slot: int) -> int:
        """Return a storage word."""

    def expect(self, slots: Iterable[int]) -> None:  # noqa: B027 - only one of the two needs it
        """Hear which words will be asked for."""


class ProvenState(State):
    """Storage of which a proof shows some words."""

    def __init__(
        self, covered: Final, trust: Trust, account: Iterable[bytes], storage: Iterable[bytes]
    ) -> None:
        """Check the way to the registry's storage.

        Raises:
            ProtocolError: ``PROOF_ACCOUNT``, or as `trie.lookup`.
        """
        super().__init__(covered)
        nodes = trie.Nodes(account)
        self._root = storage_root(covered.checkpoint.state_root, trust, nodes)
        nodes.finish()
        self._nodes = trie.Nodes(storage)

    def word(self, slot: int) -> int:
        """Return a storage word, as proven."""
        return word_at(self._root, slot, self._nodes)

    def finish(self) -> None:
        """Refuse nodes that proved nothing; see `trie.Nodes.finish`."""
        self._nodes.finish()
