"""What a node does when the coordinator asks: enlist, open a session, train a round, finish.

Each request comes in a signed envelope. The answer is one too, kept before it is released, so that the same request
gets the same bytes. What fails is answered with a code, never with an exception's text.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import threading
from collections.abc import Collection
from hashlib import sha256
from typing import Any

from dbos import DBOS, SetWorkflowID

from node.approval import Approvals
from node.role import Job, Role
from node.session import DurableChannel, Parts, load_keys, open_job, register, save_keys
from protocol.canonical import encode
from protocol.envelope import Envelope, pack, unpack
from protocol.errors import ConcordatError, NotApproved, ProtocolError, WrongRecipient
from protocol.job import Enlistment, Manifest, verify_manifest
from protocol.mailbox import COORDINATOR
from protocol.masking import MaskKey
from protocol.opening import RosterBook
from protocol.sealing import SealingKey

log = logging.getLogger(__name__)
ENLIST, SESSION, TRAIN, FINISH = "enlist", "session", "train", "finish"
REFUSED = "refused"
FINISHED = "finished"
# Sequence numbers of a stage's messages begin here, so that stages never share one.
_FIRST = {SESSION: 0, TRAIN: 1_000_000, FINISH: 1_000_000_000}
FIELD_CLASS = {
    ENLIST: "keys and commitment",
    SESSION: "digest",
    TRAIN: "masked update",
    FINISH: "figures",
    REFUSED: "error code",
}


class Stages:
    """The handler of the coordinator's requests at one node."""

    def __init__(self, parts: Parts, role: Role, approvals: Approvals, code: str) -> None:
        self._parts, self._role, self._approvals, self._code = parts, role, approvals, code
        self._active: set[str] = set()
        self._enlisting = threading.Lock()

    def answer(self, data: bytes) -> tuple[bytes, Envelope]:
        """Return the signed answer to a request, and its envelope.

        Raises:
            ProtocolError: the request isn't the coordinator's, or not for this node; nothing is answered.
        """
        parts = self._parts
        try:
            request = unpack(data, recipient=parts.party, job=_job_of(data), directory=parts.directory())
            if request.sender != COORDINATOR:
                raise WrongRecipient("REQUEST_SENDER", "only the coordinator may ask for a stage")
            fresh = register(parts.store, request)
        except ProtocolError as error:
            parts.store.refuse(COORDINATOR, error.code, error.message)
            raise
        # The same request twice at once must not make two sets of keys; durable stages see to that by themselves.
        with self._enlisting if request.step == ENLIST else contextlib.nullcontext():
            kept = self._reply(request, fresh)
        sent = unpack(kept, recipient=COORDINATOR, job=request.job, directory=parts.directory())
        return kept, sent

    def _reply(self, request: Envelope, fresh: bool) -> bytes:
        parts = self._parts
        kept = None if fresh else parts.vault.get(request.job, _reply_name(request))
        if kept is None:
            step, payload = self._handle(request)
            reply = Envelope(
                job=request.job,
                attempt=request.attempt,
                generation=request.generation,
                sender=parts.party,
                recipient=COORDINATOR,
                step=step,
                sequence=request.sequence,
                payload=payload,
            )
            kept = pack(reply, parts.key)
            if step in (ENLIST, SESSION, TRAIN):
                parts.vault.put(request.job, _reply_name(request), kept)
        return kept

    def _handle(self, request: Envelope) -> tuple[str, bytes]:
        try:
            if request.step == ENLIST:
                return ENLIST, self._enlist(request)
            if request.step in (SESSION, TRAIN, FINISH):
                return self._stage(request)
            raise ProtocolError("REQUEST_UNKNOWN", "the coordinator asks for an unknown stage")
        except ConcordatError as error:
            log.warning("%s refused: %s", request.step, error.code)
            self._parts.store.refuse(COORDINATOR, error.code, error.message)
            return REFUSED, encode({"code": error.code, "kind": type(error).__name__})

    def _enlist(self, request: Envelope) -> bytes:
        proposal = self._approvals.required(json.loads(request.payload)["proposal"])
        if proposal.digest != request.job:
            raise ProtocolError("REQUEST_JOB", "the request is for another proposal")
        self._once_only(proposal.digest, "")
        self._role.check(proposal)
        mask, seal, salt = MaskKey.generate(), SealingKey.generate(), secrets.token_bytes(32)
        enlistment = Enlistment(
            proposal=proposal.digest,
            party=self._parts.party,
            nonce=secrets.token_hex(32),
            mask_key=mask.public.hex(),
            sealing_key=seal.public.hex(),
            cohort_commitment=self._role.commitment(salt),
            code=self._code,
            partner=self._role.terms(proposal),
        )
        signed = enlistment.sign(self._parts.party, self._parts.key)
        save_keys(self._parts.vault, proposal.digest, mask, seal, signed)
        self._parts.notes(proposal.digest, ENLIST, {})
        return encode(signed)

    def _stage(self, request: Envelope) -> tuple[str, bytes]:
        body, total = _split(request)
        if request.step == FINISH and (done := self._parts.vault.get(FINISHED, request.job)) is not None:
            return FINISH, done
        if request.step == SESSION:
            self._join(request, body)
        arguments = json.dumps(
            {
                "job": request.job,
                "attempt": request.attempt,
                "generation": request.generation,
                "step": request.step,
                "round": body.get("round", 0),
                "roster": body["roster"],
                "opened": body.get("opened", {}),
                "seconds": body["seconds"],
            }
        )
        if total:
            self._parts.vault.put(request.job, f"request.{request.sequence}", total)
        name = f"{request.job[:40]}-{request.attempt}-{request.generation}-{request.sequence}"
        self._active.add(request.job)
        try:
            with SetWorkflowID(name):
                handle = DBOS.start_workflow(run_stage, arguments, request.sequence)
            outcome = json.loads(handle.get_result())
        finally:
            self._active.discard(request.job)
        if "code" in outcome:
            return REFUSED, encode(outcome)
        payload = self._parts.vault.get(request.job, f"result.{request.sequence}")
        if payload is None:
            raise ProtocolError("STEP_LOST", "the stage's result is gone")
        if request.step == FINISH:
            # Figures and a signature, no secret: kept so that a lost answer can be given again.
            self._parts.vault.put(FINISHED, request.job, payload)
            self._erase(request.job)
        return request.step, payload

    def _join(self, request: Envelope, body: dict[str, Any]) -> None:
        """Check the manifest once and remember the job under J."""
        parts = self._parts
        manifest = Manifest.parse(body["manifest"])
        proposal = self._approvals.required(manifest.proposal.digest)
        known = parts.store.job(request.job)
        keys_at = request.job if known else proposal.digest
        mask, seal, signed = load_keys(parts.vault, keys_at)
        own = Enlistment.verified(signed, parts.directory(), parts.party)
        job = verify_manifest(manifest, own=own, code=self._code, directory=parts.directory())
        if job != request.job:
            raise ProtocolError("REQUEST_JOB", "the request is for another job than its manifest")
        self._once_only(proposal.digest, job)
        if known is None:
            save_keys(parts.vault, job, mask, seal, signed)
            parts.store.open_job(job, proposal.digest, manifest.body)
        elif known["state"] != "open" or request.attempt < known["attempt"]:
            raise WrongRecipient("JOB_OVER", "the job, or this attempt of it, is over")
        parts.store.set_job(job, attempt=request.attempt, generation=request.generation)

    def _once_only(self, proposal: str, job: str) -> None:
        """Refuse a second job of one approval: the totals of two jobs over other banks could be set off."""
        if any(row["job"] != job for row in self._parts.store.job_of(proposal)):
            raise NotApproved("PROPOSAL_USED", "what was approved has become a job already")

    def _erase(self, job: str) -> None:
        row = self._parts.store.job(job)
        if row is not None:
            self._parts.store.set_job(job, state="finished")
            self._parts.vault.erase(row["proposal"])
        self._parts.vault.erase(job)

    def forget_ended(self, open_proposals: Collection[str]) -> None:
        """Erase the secrets of jobs that the coordinator no longer counts among the open ones.

        Args:
            open_proposals: digests of the proposals that are still open.
        """
        for name in self._parts.vault.jobs():
            row = self._parts.store.job(name)
            proposal = name if row is None else row["proposal"]
            known = row is not None or self._parts.store.proposal(name) is not None
            if known and proposal not in open_proposals and name not in self._active:
                self._parts.vault.erase(name)
                if row is not None and row["state"] == "open":
                    self._parts.store.set_job(name, state="ended")
                log.info("the secrets of an ended job were erased")

    def _admit(self, job: Job) -> None:
        """Take note of the attempt's roster before anything is masked under it; a second one is refused."""
        name = f"r-{job.id[:62]}"
        state = self._parts.store.load_guard(name)
        book = RosterBook.from_state([] if state is None else state["rosters"])
        book.admit(job.roster)
        self._parts.store.save_guard(name, {"rosters": book.to_state()})

    def run(self, arguments: str, sequence: int) -> str:
        """Run a stage's steps; called within its durable workflow. Returns JSON: a digest, or an error's code."""
        asked = json.loads(arguments)
        try:
            job = open_job(self._parts, asked["job"], asked["roster"], asked["attempt"], asked["opened"])
            row = self._parts.store.job(job.id)
            if row is None or row["attempt"] != job.attempt:
                raise WrongRecipient("ATTEMPT_OVER", "the request is for another attempt")
            self._admit(job)
            first = _FIRST[asked["step"]] + 1000 * asked["round"]
            channel = DurableChannel(self._parts, job, asked["generation"], first, asked["seconds"])
            total = self._parts.vault.get(job.id, f"request.{sequence}") or b""
            if asked["step"] == SESSION:
                payload = encode(self._role.session(job, channel))
            elif asked["step"] == TRAIN:
                payload = self._role.train(job, channel, asked["round"], total)
            else:
                payload = json.dumps(self._role.finish(job, channel, total)).encode()
        except ConcordatError as error:
            log.warning("%s stopped: %s", asked["step"], error.code)
            self._parts.store.refuse("", error.code, error.message)
            return json.dumps({"code": error.code, "kind": type(error).__name__})
        except Exception:
            # An exception's text could hold a row's values; the log at this node has it, the peer gets a code.
            log.exception("%s failed", asked["step"])
            return json.dumps({"code": "INTERNAL", "kind": "Exception"})
        self._parts.vault.put(job.id, f"result.{sequence}", payload)
        return json.dumps({"digest": sha256(payload).hexdigest()})


_current: list[Stages] = []


def serve_with(stages: Stages) -> None:
    """Name the handler that durable workflows of this process belong to; before DBOS is launched."""
    _current[:] = [stages]


@DBOS.workflow()
def run_stage(arguments: str, sequence: int) -> str:
    """Run a stage durably."""
    return _current[0].run(arguments, sequence)


def _job_of(data: bytes) -> str:
    """Return the job that an envelope names, before anything of it is believed."""
    length = int.from_bytes(data[1:5], "big")
    if not 0 < length <= 128:
        raise ProtocolError("ENVELOPE_MALFORMED", "An envelope's job is not well formed.")
    return data[5 : 5 + length].decode("ascii", errors="replace")


def _split(request: Envelope) -> tuple[dict[str, Any], bytes]:
    """Return a request's JSON head and the bytes behind it."""
    size = int.from_bytes(request.payload[:4], "big")
    try:
        head = json.loads(request.payload[4 : 4 + size])
        if not isinstance(head, dict) or "roster" not in head or "seconds" not in head:
            raise ValueError
    except ValueError:
        raise ProtocolError("REQUEST_MALFORMED", "the coordinator's request can't be read") from None
    return head, request.payload[4 + size :]


def _reply_name(request: Envelope) -> str:
    return f"reply.{request.generation}.{request.sequence}"
