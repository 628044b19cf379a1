"""The queue of jobs beside a Flower that is in the hands of the test: nothing hangs, whatever becomes of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from coordinator import jobs as module
from coordinator.flower import RunState
from coordinator.jobs import Jobs
from coordinator.store import Store
from protocol.identity import Directory, IdentityKey, Party, Role, issue
from protocol.job import Approval, Deadlines, Proposal
from protocol.mailbox import COORDINATOR

BANKS = ("bank-1", "bank-2", "bank-3")


class Flower:
    """``coordinator.flower.Control``: runs start and never end, unless told otherwise."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.stopped: list[str] = []
        self.down = False
        self.status = "running"

    def start(self, bundle: bytes, config: dict[str, str]) -> str:
        if self.down:
            raise ConnectionError
        self.started.append(str(len(self.started) + 1))
        return self.started[-1]

    def state(self, run: str) -> RunState:
        if self.down:
            raise ConnectionError
        return RunState(self.status, "", "")

    def stop(self, run: str) -> None:
        self.stopped.append(run)


@pytest.fixture
def keys() -> dict[str, IdentityKey]:
    return {name: IdentityKey.generate() for name in (*BANKS, "stranger", COORDINATOR)}


@pytest.fixture
def flower() -> Flower:
    return Flower()


@pytest.fixture
def queue(
    tmp_path: Path, keys: dict[str, IdentityKey], flower: Flower, monkeypatch: pytest.MonkeyPatch
) -> Jobs:
    monkeypatch.setattr(module, "TURN_SECONDS", 0.01)
    monkeypatch.setattr(module, "bundle", lambda: b"bundle")
    registry, now = IdentityKey.generate(), int(time.time())
    roles = {COORDINATOR: Role.COORDINATOR}
    statements = [
        issue(Party(n, roles.get(n, Role.BANK), k.public, "", now - 9, now + 900, i), "c", registry)
        for i, (n, k) in enumerate(keys.items(), 1)
    ]
    directory = Directory.from_statements(statements, "c", registry.public, now)
    store = Store.open(f"sqlite:///{tmp_path}/coordinator.db")
    return Jobs("c", store, keys[COORDINATOR], lambda: directory, flower, start=lambda _: None)  # type: ignore[arg-type]


def _submit(queue: Jobs, **changes: Any) -> str:
    body = {
        "title": "t",
        "purpose": "train",
        "banks": list(BANKS),
        "contract": "0" * 64,
        "deadlines": Deadlines(enlist=1, session=1, round=1, finish=1).body,
        "submitted_by": "modeller",
        "submitted_at": 1,
        "nonce": "1" * 64,
        **changes,
    }
    return str(queue.submit(body)["id"])


def _row(queue: Jobs, job: str) -> dict[str, Any]:
    row = queue._store.job(job)
    assert row is not None
    return row


class TestNothingHangs:
    def test_a_silent_run_is_stopped_and_started_again_and_at_last_given_up(
        self, queue: Jobs, flower: Flower, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "SILENCE_SECONDS", -1.0 + 0.05)
        job = _submit(queue)
        queue.run(job, 2, lambda: False)
        row = _row(queue, job)
        assert (row["state"], row["resumes"]) == ("failed", 2)
        assert "silent" in row["cause"]
        assert flower.started == ["1", "2", "3"]
        assert flower.stopped == ["1", "2"]

    def test_without_a_superlink_the_job_ends(
        self, queue: Jobs, flower: Flower, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "SILENCE_SECONDS", -1.0 + 0.05)
        monkeypatch.setattr(module.time, "sleep", lambda _: None)
        flower.down = True
        job = _submit(queue)
        queue.run(job, 2, lambda: False)
        row = _row(queue, job)
        assert (row["state"], row["cause"]) == ("failed", "Flower's SuperLink takes no run")

    def test_a_run_that_tells_of_itself_is_left_alone(self, queue: Jobs, flower: Flower) -> None:
        job, turns = _submit(queue), iter(range(5))
        queue.run(job, 2, lambda: next(turns, None) is None)
        assert (_row(queue, job)["state"], flower.started) == ("running", ["1"])

    def test_a_run_that_died_is_started_again(self, queue: Jobs, flower: Flower) -> None:
        flower.status = "finished"
        job = _submit(queue)
        queue.run(job, 3, lambda: False)
        assert _row(queue, job)["state"] == "failed"
        assert len(flower.started) == 4

    def test_a_cancelled_job_ends_and_gives_its_leases_back(self, queue: Jobs, flower: Flower) -> None:
        job = _submit(queue)
        assert queue.await_leases(job, lambda: False) == ""
        queue.cancel(job)
        queue.run(job, 3, lambda: False)
        assert _row(queue, job)["state"] == "cancelled"
        other = _submit(queue, nonce="2" * 64)
        assert queue._store.take_leases(other, list(BANKS)) == []

    def test_approvals_that_never_come_reject_the_job_at_its_deadline(self, queue: Jobs) -> None:
        job = _submit(queue)
        cause = queue.await_approvals(job, time.time() + 0.3, lambda: False)
        assert cause == "not approved in time by bank-1, bank-2, bank-3"


class TestQueue:
    def test_a_job_waits_for_the_institutions_of_another(self, queue: Jobs) -> None:
        first, second = _submit(queue), _submit(queue, nonce="2" * 64)
        assert queue.await_leases(first, lambda: False) == ""
        turns = iter(range(2))
        with pytest.raises(SystemExit):
            queue.await_leases(second, lambda: next(turns, None) is None)
        waiting = [e["detail"] for e in queue._store.events(second, 0) if e["kind"] == "waiting"]
        assert len(waiting) == 1
        queue._store.end_job(first, "failed")
        assert queue.await_leases(second, lambda: False) == ""


class TestDecisions:
    def _decision(self, job: str, party: str, signer: str, key: IdentityKey) -> dict[str, Any]:
        decided = Approval(proposal=job, party=party, decision="approve", by="x", at=1)
        return decided.sign(signer, key)

    def test_each_institution_decides_for_itself_only(
        self, queue: Jobs, keys: dict[str, IdentityKey]
    ) -> None:
        job = _submit(queue)
        good = self._decision(job, "bank-1", "bank-1", keys["bank-1"])
        for party, document in {
            # Another's name under its own key, another's key under its name, somebody else's document.
            "bank-2": self._decision(job, "bank-3", "bank-2", keys["bank-2"]),
            "bank-3": self._decision(job, "bank-3", "bank-3", keys["stranger"]),
            "stranger": good,
        }.items():
            queue.take_decisions(party, json.dumps([document]).encode())
            assert queue._store.approvals(job) == {}
        queue.take_decisions("bank-1", json.dumps([good]).encode())
        assert queue._store.approvals(job) == {"bank-1": "approve"}

    @pytest.mark.parametrize(
        "data",
        [b"", b"\xff\xfe", b"null", b"[1]", b"{}", b'"text"', b"[" * 200_000, b'[{"body": 1}]', b"[{}]"],
    )
    def test_what_cant_be_read_stops_nobody(
        self, queue: Jobs, keys: dict[str, IdentityKey], data: bytes
    ) -> None:
        job = _submit(queue)
        queue.take_decisions("bank-1", data)
        assert queue._store.approvals(job) == {}
        good = self._decision(job, "bank-1", "bank-1", keys["bank-1"])
        queue.take_decisions("bank-1", json.dumps([good]).encode())
        assert queue._store.approvals(job) == {"bank-1": "approve"}


def test_a_proposal_names_the_coordinators_own_code_whatever_was_sent(queue: Jobs) -> None:
    job = _submit(queue, code="f" * 64)
    proposal = Proposal.parse(json.loads(_row(queue, job)["document"])["body"])
    assert proposal.code == module.code_hash()
