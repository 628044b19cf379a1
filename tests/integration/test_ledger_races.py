"""Several banks' processes on one receivable, through the real gateway.

``CONCORDAT_RACE_ATTEMPTS=1000`` for the long run.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from engine_processes import needs_engine
from ledger_document import Document
from ledger_gateway import GatewayWorld, running
from ledger_moves import confirmed
from ledger_racers import Keys, Operation, Plan, Receivable, linearizable, race, step

from ledger.commitments import FULL
from ledger.signers import Role

pytestmark = [pytest.mark.integration, needs_engine]

BANKS = 4
ATTEMPTS = int(os.environ.get("CONCORDAT_RACE_ATTEMPTS", "100"))
READY = 4
"""Seconds that processes get for their imports."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayWorld]:
    with running(tmp_path_factory.mktemp("races")) as (found, _):
        yield found


def run(world: GatewayWorld, document: Document, attempts: int, share: int = 0) -> list[Operation]:
    """Let all banks race; returns what they recorded."""
    assert document.body is not None
    owners = (document.owner, world.party(Role.SUPPLIER), world.party(Role.SUPPLIER))
    plan = Plan(
        world.url,
        world.domain,
        document.claim,
        document.body,
        tuple(document.names),
        tuple(Keys.of(one) for one in owners),
        Keys.of(document.obligor),
        Keys.of(world.party(Role.BANK)),
        attempts // BANKS,
        0,
        time.monotonic_ns() + READY * 10**9,
        share,
    )
    plans = [replace(plan, bank=Keys.of(world.party(Role.BANK)), seed=seed) for seed in range(BANKS)]
    with multiprocessing.get_context("spawn").Pool(BANKS) as pool:
        return [one for each in pool.map(race, plans, chunksize=1) for one in each]


def first(world: GatewayWorld, document: Document) -> Receivable:
    """The state in which a race begins."""
    status = world.status(document.claim)
    return Receivable(version=status["version"], seq=status["seq"], cap=status["cap"])


def test_case_17_many_pledges_of_60_percent_have_one_winner(world: GatewayWorld) -> None:
    document = confirmed(world)
    history = run(world, document, ATTEMPTS, 600_000)
    assert sum(one.ok for one in history) == 1
    assert {one.refusal for one in history if not one.ok} == {"OverCapacity"}
    assert world.status(document.claim)["pledged"] == 600_000


def test_the_right_number_of_shares_is_pledged(world: GatewayWorld) -> None:
    document, share = confirmed(world), 70_000
    begin, history = first(world, document), run(world, document, ATTEMPTS, share)
    won = [one for one in history if one.ok]
    assert len(won) == FULL // share
    assert {one.refusal for one in history if not one.ok} == {"OverCapacity"}
    status = world.status(document.claim)
    assert (status["pledged"], status["liens"]) == (len(won) * share, len(won))
    assert linearizable(history, begin, step)


def test_mixed_histories_are_linearizable(world: GatewayWorld) -> None:
    document = confirmed(world)
    begin, history = first(world, document), run(world, document, ATTEMPTS)
    done = Counter(one.kind for one in history if one.ok)
    assert set(done) >= {"pledge", "release", "settle_lien"}
    assert all(one.refusal for one in history if not one.ok)
    assert linearizable(history, begin, step)
    status = world.status(document.claim)
    assert status["pledged"] <= status["cap"] or status["flags"] & 1
    total = sum(status[name] for name in ("cap", "settled", "transferred", "credited"))
    assert total == status["original"]
    _the_judge_is_strict(history, begin)


def _the_judge_is_strict(history: list[Operation], begin: Receivable) -> None:
    """The same history with one answer changed, or one winner's real time moved, must be refused."""
    won = next(one for one in history if one.ok and one.kind == "pledge")
    lost = next(one for one in history if one.refusal == "OverCapacity")
    rest = [one for one in history if one is not won]
    assert not linearizable([*rest, replace(won, ok=False, refusal="OverCapacity")], begin, step)
    rest = [one for one in history if one is not lost]
    assert not linearizable([*rest, replace(lost, ok=True, refusal="")], begin, step)
    assert not linearizable([*rest, replace(lost, refusal="LienEnded")], begin, step)


def op(kind: str, began: int, ended: int, refusal: str = "", **arguments: object) -> Operation:
    return Operation(kind, {"owner": 0, **arguments}, began, ended, not refusal, refusal)


def test_the_judge_knows_real_time_from_overlap() -> None:
    begin = Receivable()
    big = {"version": 1, "ppm": 600_000}
    win, lose = op("pledge", 0, 10, lien=b"a", **big), op("pledge", 5, 20, "OverCapacity", lien=b"b", **big)
    assert linearizable([win, lose], begin, step)
    early = replace(lose, began=-5, ended=-1)
    assert not linearizable([win, early], begin, step)
    assert linearizable([win, replace(early, ended=3)], begin, step)
    freed = op("release", 11, 12, lien=b"a")
    assert not linearizable([win, freed, replace(lose, began=13)], begin, step)
    assert linearizable([win, freed, replace(lose, began=5)], begin, step)
