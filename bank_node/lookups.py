"""A bank's questions to partners about its own ids: blinded, padded, cached within an epoch.

Specification: training protocol, step B2. The bank asks only for ids that are new in the epoch, padded with openable
dummies up to three significant bits of their number; what came back verified is kept until the epoch ends.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence

from node.keep import Keep, shelf_of
from node.role import Channel, Job
from node.sealed import SealedChannel
from protocol import vertical, voprf
from protocol.errors import ProtocolError
from protocol.group import decode_element
from protocol.join import bucketed
from protocol.voprf import NONCE_BYTES, OUTPUT_BYTES, Batch

POINTS = "blinded points"

Input = Callable[[str, str, str], bytes | None]
"""From partner, purpose and canonical id to the PRF input, None where the enterprise has given no consent."""


class Lookups:
    """PRF outputs of a bank's ids, by partner and purpose.

    Args:
        keep: where outputs and the audit key lie.
        input_of: what is asked for an id.
    """

    def __init__(self, keep: Keep, input_of: Input) -> None:
        self._keep, self._input_of = keep, input_of
        self._batches: dict[tuple[str, int, str, str], list[Batch]] = {}

    def ask(self, job: Job, channel: Channel, partner: str, purpose: str, ids: Sequence[str]) -> None:
        """Send the blinded points of what isn't cached; an empty message if nothing is new."""
        made = self._made(job, channel, partner, purpose, ids)
        sealed = SealedChannel(job, channel)
        head = json.dumps([len(batch.inputs) for batch in made]).encode()
        sealed.send(partner, vertical.named(vertical.ASK, purpose), head, POINTS)
        for number, batch in enumerate(made):
            sealed.send(partner, vertical.named(vertical.ASK, purpose, number), batch.request, POINTS)

    def outputs(
        self, job: Job, channel: Channel, partner: str, purpose: str, ids: Sequence[str]
    ) -> list[bytes]:
        """Take what came back and return the outputs of ids, in their order.

        An id without consent gets an output that no table holds.

        Raises:
            ProtocolError: as `voprf.finalize`.
        """
        terms = job.proposal.vertical
        assert terms is not None
        shelf, known = shelf_of(terms.epoch), self._cached(job, partner, purpose)
        made = self._made(job, channel, partner, purpose, ids)
        public = decode_element(bytes.fromhex(_public(job, partner, purpose)))
        dummies = set(self._dummies(channel, job, partner, purpose, 0))
        fresh: dict[bytes, bytes] = {}
        for number, batch in enumerate(made):
            name = vertical.named(vertical.ANSWER, purpose, number)
            response = SealedChannel(job, channel).receive(partner, name, terms.patience)
            found = voprf.finalize(batch, response, public)
            fresh.update((i, o) for i, o in zip(batch.inputs, found, strict=True) if i not in dummies)
        if fresh:
            known |= fresh
            self._keep.put(shelf, _name(job, partner, purpose), _packed(known))
        return [
            known.get(self._input(partner, purpose, one), b"") or secrets.token_bytes(OUTPUT_BYTES)
            for one in ids
        ]

    # -- what is asked --------------------------------------------------------------------------------------

    def _made(
        self, job: Job, channel: Channel, partner: str, purpose: str, ids: Sequence[str]
    ) -> list[Batch]:
        place = (job.id, job.attempt, partner, purpose)
        if place in self._batches:
            return self._batches[place]
        terms = job.proposal.vertical
        assert terms is not None
        step = f"asked.{partner}.{purpose}.{job.attempt}"

        # Which ids were new is decided once: after a crash the same points are sent under the same blinds.
        def new() -> bytes:
            known = self._cached(job, partner, purpose)
            wanted = [
                value for one in ids if (value := self._input(partner, purpose, one)) and value not in known
            ]
            return b"".join(len(one).to_bytes(2, "big") + one for one in wanted)

        wanted = _unpacked(channel.keep(step, new))
        dummies = (
            self._dummies(channel, job, partner, purpose, bucketed(len(wanted)) - len(wanted))
            if wanted
            else []
        )
        inputs = [*wanted, *dummies]
        key = self._audit_key()
        made = []
        for number, part in enumerate(vertical.batches(len(inputs))):
            label = vertical.ask_label(job.roster, job.party, partner, purpose, number)
            made.append(voprf.blind([inputs[at] for at in part], audit_key=key, label=label))
        self._batches = {kept: value for kept, value in self._batches.items() if kept[:2] == place[:2]}
        self._batches[place] = made
        return made

    def _dummies(self, channel: Channel, job: Job, partner: str, purpose: str, count: int) -> list[bytes]:
        step = f"dummies.{partner}.{purpose}.{job.attempt}"
        kept = channel.keep(step, lambda: secrets.token_bytes(NONCE_BYTES * count))
        return [voprf.dummy_input(kept[at : at + NONCE_BYTES]) for at in range(0, len(kept), NONCE_BYTES)]

    def _input(self, partner: str, purpose: str, one: str) -> bytes:
        return self._input_of(partner, purpose, one) or b""

    def _audit_key(self) -> bytes:
        """Return the key that all blinds of this bank derive from; an auditor's escrow opens points by it."""
        key = self._keep.get("audit", "key")
        if key is None:
            key = secrets.token_bytes(32)
            self._keep.put("audit", "key", key)
        return key

    # -- what is cached -------------------------------------------------------------------------------------

    def _cached(self, job: Job, partner: str, purpose: str) -> dict[bytes, bytes]:
        terms = job.proposal.vertical
        assert terms is not None
        kept = self._keep.get(shelf_of(terms.epoch), _name(job, partner, purpose))
        return {} if kept is None else _read(kept)


def _name(job: Job, partner: str, purpose: str) -> str:
    # Of one key: outputs under another that the partner has drawn since would match nothing.
    return f"outputs.{purpose}.{partner}.{_public(job, partner, purpose)[:16]}"


def _public(job: Job, partner: str, purpose: str) -> str:
    terms = vertical.terms_of(job.manifest, partner)
    return (terms.training if purpose == vertical.TRAINING else terms.serving)[job.party]


def _packed(known: dict[bytes, bytes]) -> bytes:
    return b"".join(len(one).to_bytes(2, "big") + one + output for one, output in known.items())


def _read(data: bytes) -> dict[bytes, bytes]:
    known, at = {}, 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        end = at + 2 + size
        known[data[at + 2 : end]] = data[end : end + OUTPUT_BYTES]
        at = end + OUTPUT_BYTES
    if at != len(data):
        raise ProtocolError("KEEP_DAMAGED", "The cached outputs of an epoch are damaged.")
    return known


def _unpacked(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        found.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return found
