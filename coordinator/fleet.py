"""Flower's grid, made reliable: requests to a job's parties, delivered however often a node has to come back.

A request's bytes are signed once and sent again as they are: a node answers a repeat with what it kept. Nodes are found
by the public key that authenticates them, never by a name that they give themselves. Every message has a time to live
and every request a deadline; who is missing then is named.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from coordinator.flower import line_of
from coordinator.mail import Mail
from node.flower.shim import ERROR, FIELD, RECORD, envelope_of
from protocol.envelope import Envelope, pack, unpack
from protocol.errors import ConcordatError, JobVoid, ProtocolError
from protocol.identity import Directory, IdentityKey, Role
from protocol.mailbox import COORDINATOR

log = logging.getLogger(__name__)
MESSAGE_TYPE = {
    "enlist": "query.enlist",
    "session": "query.session",
    "train": "train",
    "finish": "query.finish",
}
RESEND_SECONDS = 1.5
# A message may be lost without an error: it is sent again, and a node answers a repeat with what it kept.
STALL_SECONDS = 45.0
LOOK_SECONDS = 2.0
# How long optional parties may take for an answer once all others have theirs.
LAST_SECONDS = 20.0
REFUSED = "refused"
# Refusals after which the same party may well answer another request: it lost its peers, not its mind.
PASSING = frozenset({"EXCHANGE_TIMEOUT", "EXCHANGE_UNAVAILABLE", "SESSION_SUPERSEDED", "LEASE_LOST"})


class PartiesMissing(JobVoid):
    """Parties did not answer in time, or gave up their part.

    Attributes:
        silent: those that did not answer at all.
    """

    def __init__(self, step: str, silent: Mapping[str, str], gave_up: Mapping[str, str]) -> None:
        self.silent = sorted(silent)
        said = ", ".join(f"{name} ({why})" for name, why in sorted({**gave_up, **silent}.items()))
        super().__init__("PARTY_MISSING", f"{step}: no answer of {said}")


class Refusal(JobVoid):
    """A party refused its part for a reason that repeating won't change."""


@dataclass(frozen=True)
class Place:
    """Where in a job a request belongs: the job's name in envelopes, the attempt, the session's generation."""

    job: str
    attempt: int
    generation: int


@dataclass
class _Pending:
    data: bytes
    request: Envelope
    # Flower's numbers of the messages that carried it and have had no reply; any of them may have one yet.
    sent: list[str] = field(default_factory=list)
    asked: bool = False
    stalls: int = 0
    activated: str = ""
    again: float = 0.0
    why: str = "no answer"


class Fleet(Grid):
    """The parties of a job behind Flower's grid; offers the grid's ``send_and_receive`` and, above it, :meth:`ask`.

    Args:
        grid: Flower's.
        directory: who is who.
        key: the coordinator's identity key.
        sequence: next sequence number towards a party.
        watch: called at every turn of a wait; raises to end it (a cancelled job).
        told: called with (step, party, event, details) for the job's log.
        poll: seconds between two turns.
        mail: reaches the parties that are no banks and run nothing of Flower.
    """

    def __init__(
        self,
        grid: Grid,
        directory: Directory,
        key: IdentityKey,
        sequence: Callable[[str], int],
        watch: Callable[[], None],
        told: Callable[..., None],
        poll: float,
        mail: Mail,
    ) -> None:
        self._grid, self._directory, self._key, self._mail = grid, directory, key, mail
        self._sequence, self._watch, self._told, self._poll = sequence, watch, told, poll
        self._nodes_at, self._nodes_then = 0.0, dict[str, Any]()

    def ask(
        self,
        step: str,
        payloads: Mapping[str, bytes],
        place: Place,
        seconds: float,
        turn: Callable[[], None] = lambda: None,
        optional: Collection[str] = (),
    ) -> dict[str, bytes]:
        """Ask every party and return the payloads of their answers, by party.

        Args:
            step: ``enlist``, ``session``, ``train`` or ``finish``.
            payloads: what to ask, by party.
            place: where in the job.
            seconds: until when all must have answered.
            turn: called at every turn of the wait, for what has to happen meanwhile.
            optional: parties that may stay silent or give up once the others have answered.

        Raises:
            PartiesMissing: some did not answer in time, or gave up.
            Refusal: one refused for good.
        """
        replies = self._deliver(self.requests(step, payloads, place), seconds, turn, optional)
        return dict(self.read(reply, place) for reply in replies)

    def requests(self, step: str, payloads: Mapping[str, bytes], place: Place) -> list[Message]:
        """Return one signed request per party; the message's group names the party."""
        made = []
        for party, payload in payloads.items():
            envelope = Envelope(
                place.job,
                place.attempt,
                place.generation,
                COORDINATOR,
                party,
                step,
                self._sequence(party),
                payload,
            )
            made.append(self._message(party, step, pack(envelope, self._key), 1.0))
        return made

    def read(self, reply: Message, place: Place) -> tuple[str, bytes]:
        """Return the sender and payload of an answer that ``send_and_receive`` let through."""
        answer = unpack(envelope_of(reply), recipient=COORDINATOR, job=place.job, directory=self._directory)
        return answer.sender, answer.payload

    # -- Flower's grid ----------------------------------------------------------------------------------------

    def set_run(self, run: Run) -> None:
        """See ``flwr.serverapp.Grid``."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """See ``flwr.serverapp.Grid``."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See ``flwr.serverapp.Grid``."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """See ``flwr.serverapp.Grid``."""
        return self._grid.get_node_ids()

    def get_nodes(self) -> Iterable[Any]:
        """See ``flwr.serverapp.Grid``."""
        return self._grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See ``flwr.serverapp.Grid``."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See ``flwr.serverapp.Grid``."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Deliver requests and return the answers, as Flower's grid does, but all of them or an error."""
        return self._deliver(list(messages), timeout or 0.0, lambda: None)

    def _deliver(
        self,
        messages: list[Message],
        seconds: float,
        turn: Callable[[], None],
        optional: Collection[str] = (),
    ) -> list[Message]:
        pending: dict[str, _Pending] = {}
        for message in messages:
            data = envelope_of(message)
            party, job = message.metadata.group_id.split("/", 1)
            own = unpack(data, recipient=party, job=job, directory=self._directory)
            pending[party] = _Pending(data, own)
        began = time.monotonic()
        deadline = began + seconds
        answers: list[Message] = []
        gave_up: dict[str, str] = {}
        patience = float("inf")
        while pending:
            self._watch()
            turn()
            if not set(pending) - set(optional):
                # What they had to give has been given or won't be: a last moment for the answer itself.
                patience = min(patience, time.monotonic() + LAST_SECONDS)
                if time.monotonic() > patience:
                    for party in pending:
                        self._told(pending[party].request.step, party, "left out", why=pending[party].why)
                    break
            if time.monotonic() > deadline:
                step = next(iter(pending.values())).request.step
                raise PartiesMissing(step, {party: entry.why for party, entry in pending.items()}, gave_up)
            try:
                self._send(pending, deadline - time.monotonic())
                replies = self._pull(pending)
            except ConcordatError:
                raise
            except Exception as error:  # noqa: BLE001 - Flower's transport fails in ways of its own
                # The SuperLink is restarting; what it had taken lies on its disk, a half-sent message is sent anew.
                log.warning("the SuperLink doesn't answer: %s", type(error).__name__)
                time.sleep(1)
                continue
            for party, reply in replies:
                if party not in pending:
                    continue
                entry = pending[party]
                code = self._judge(party, reply, entry, optional)
                if code is None:
                    continue
                del pending[party]
                if code:
                    if party not in optional:
                        gave_up[party] = code
                    continue
                answers.append(reply)
                took = round(time.monotonic() - began, 2)
                size = len(envelope_of(reply))
                self._told(entry.request.step, party, "answered", bytes=size, seconds=took)
            if gave_up and not pending:
                raise PartiesMissing(messages[0].metadata.message_type, {}, gave_up)
            if pending:
                time.sleep(self._poll)
        return answers

    def _message(self, party: str, step: str, data: bytes, ttl: float, node: int = 1) -> Message:
        job = unpack_job(data)
        return Message(
            RecordDict({RECORD: ConfigRecord({FIELD: data})}),
            dst_node_id=node,
            message_type=MESSAGE_TYPE[step],
            ttl=ttl,
            group_id=f"{party}/{job}",
        )

    def _nodes(self) -> dict[str, Any]:
        """Return the online nodes by party, recognised by their Flower key; looked up every two seconds."""
        now = time.monotonic()
        if now - self._nodes_at > LOOK_SECONDS:
            found = {}
            for node in self._grid.get_nodes():
                try:
                    found[self._directory.by_flower_key(line_of(node.public_key)).name] = node
                except ProtocolError:
                    continue
            self._nodes_at, self._nodes_then = now, found
        return self._nodes_then

    def _send(self, pending: dict[str, _Pending], ttl: float) -> None:
        nodes, now = self._nodes(), time.monotonic()
        for party, entry in pending.items():
            if self._mailed(party):
                self._send_mail(party, entry, now)
                continue
            node = nodes.get(party)
            if node is None:
                entry.why = "node offline"
                continue
            # A node that has come back since does not know of what was sent before.
            returned = entry.activated != node.last_activated_at
            if entry.asked and not returned and now < entry.again:
                continue
            step = entry.request.step
            message = self._message(party, step, entry.data, max(ttl, 1.0), node.node_id)
            sent = next(iter(self._grid.push_messages([message])), "")
            kind = "asked again" if entry.asked else "asked"
            self._told(step, party, kind, bytes=len(entry.data), why=entry.why)
            entry.sent += [sent] if sent else []
            # Ever more seldom: a node that only takes long has to answer each repeat, too.
            entry.stalls += 1 if entry.asked and not returned and entry.why == "no answer" else 0
            entry.again = now + (STALL_SECONDS * 2**entry.stalls if sent else RESEND_SECONDS)
            entry.asked, entry.activated, entry.why = True, node.last_activated_at, "no answer"

    def _mailed(self, party: str) -> bool:
        return self._directory[party].role is not Role.BANK

    def _send_mail(self, party: str, entry: _Pending, now: float) -> None:
        if entry.asked and now < entry.again:
            return
        self._mail.ask(party, entry.data)
        self._told(
            entry.request.step, party, "asked again" if entry.asked else "asked", bytes=len(entry.data)
        )
        entry.asked, entry.again = True, now + STALL_SECONDS

    def _pull_mail(self, pending: dict[str, _Pending]) -> list[tuple[str, Message]]:
        found = []
        for party, entry in pending.items():
            if self._mailed(party) and (data := self._mail.answer(party, entry.request)) is not None:
                found.append((party, self._message(party, entry.request.step, data, 1.0)))
                self._mail.clear(party)
        return found

    def _pull(self, pending: dict[str, _Pending]) -> list[tuple[str, Message]]:
        found = self._pull_mail(pending)
        waiting = {sent: party for party, entry in pending.items() for sent in entry.sent}
        if not waiting:
            return found
        for reply in self._grid.pull_messages(list(waiting)):
            number = reply.metadata.reply_to_message_id
            pending[waiting[number]].sent.remove(number)
            found.append((waiting[number], reply))
        return found

    def _judge(self, party: str, reply: Message, entry: _Pending, optional: Collection[str]) -> str | None:
        """Return "" for a good answer, a code if the party gave up, None if it is to be asked again."""
        request, again = entry.request, time.monotonic() + RESEND_SECONDS
        if reply.has_error():
            entry.again, entry.why = again, f"Flower error {reply.error.code}"
            return None
        record = reply.content[RECORD]
        if ERROR in record:
            entry.again, entry.why = again, str(record[ERROR])
            return None
        try:
            answer = unpack(
                _bytes_of(reply), recipient=COORDINATOR, job=request.job, directory=self._directory
            )
            found = (answer.sender, answer.attempt, answer.generation, answer.sequence)
            if found != (party, request.attempt, request.generation, request.sequence):
                raise ProtocolError("ANSWER_UNEXPECTED", "an answer is not to what was asked")
        except ProtocolError as error:
            self._told(request.step, party, "refused", code=error.code)
            entry.again, entry.why = again, error.code
            return None
        if answer.step == REFUSED:
            code = str(json.loads(answer.payload).get("code"))
            self._told(request.step, party, "gave up", code=code)
            if code in PASSING or party in optional:
                return code
            raise Refusal(code, f"{request.step}: {party} refused ({code})")
        if answer.step != request.step:
            raise Refusal("ANSWER_UNEXPECTED", f"{request.step}: {party} answered something else")
        return ""


def _bytes_of(reply: Message) -> bytes:
    try:
        return envelope_of(reply)
    except (KeyError, TypeError):
        raise ProtocolError("ANSWER_MALFORMED", "an answer holds no envelope") from None


def unpack_job(data: bytes) -> str:
    """Return the job that a request of this coordinator names."""
    return data[5 : 5 + int.from_bytes(data[1:5], "big")].decode()
