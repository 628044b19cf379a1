"""A party killed at every boundary between two steps comes back and gives the same bytes.

In process, over a relay in memory (``consortium_world``): one job in which each boundary of a party kills it once.
What is masked is masked once per label (the ledger of ``protocol.labels``), and the model is the one that an
undisturbed run gives.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from consortium_world import RECIPE, World, acting, generation_of, payload_of

from concordat import dataset
from concordat.economy import write_economy
from concordat.simulate import proposal_for, simulate
from coordinator import server_app
from node import egress
from node.ingest import Table
from protocol.contract import DataContract
from protocol.job import Deadlines
from protocol.mailbox import COORDINATOR

pytestmark = pytest.mark.timeout(300)
DEADLINES = Deadlines(enlist=60, session=60, round=60, finish=60)


@pytest.fixture(scope="module")
def economy(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataContract, dict[str, Table]]:
    home = tmp_path_factory.mktemp("economy")
    write_economy(home, count=600, banks=4, seed=2, kind="parquet")
    data = dataset.load(home)
    banks = [party.name for party in data.parties if party.role == "bank"]
    return data.contract(), {bank: data.table(bank) for bank in banks}


@pytest.fixture(scope="module")
def undisturbed(
    economy: tuple[DataContract, dict[str, Table]], tmp_path_factory: pytest.TempPathFactory
) -> str:
    contract, tables = economy
    proposal = proposal_for(list(tables), contract, "world", recipe=RECIPE, seed=3, min_rows=20)
    return simulate(proposal, contract, tables, tmp_path_factory.mktemp("twin")).model


@pytest.fixture
def world(
    economy: tuple[DataContract, dict[str, Table]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> World:
    return World(tmp_path, *economy, monkeypatch)


def _checked(world: World, row: dict[str, object], model: str) -> None:
    """Finished in the first attempt, with the undisturbed model and nothing masked twice."""
    assert (row["state"], row["attempt"]) == ("finished", 0), row["cause"]
    assert world.store.list_models()[0]["digest"] == model
    assert len(world.ledger) > 0
    # Every masked payload of a bank, however often it was sent, is the same bytes.
    sent: dict[tuple[str, str, int], set[bytes]] = {}
    for sender, step, data in world.relay.held:
        if step in ("knots", "centring", "edges", "histogram"):
            sent.setdefault((sender, step, 0), set()).add(payload_of(data))
    assert sent
    assert all(len(payloads) == 1 for payloads in sent.values())
    for each in world.nodes.values():
        head = egress.read_head(each.home / "egress.head")
        assert head is not None
        egress.verify(each.store, each.key.public, {"file": head})


def test_an_undisturbed_job_gives_the_simulated_model(world: World, undisturbed: str) -> None:
    _checked(world, world.run(world.submit(deadlines=DEADLINES)), undisturbed)


# The first bank of the roster draws the group key; any other receives it.
@pytest.mark.parametrize("victim", ["bank-1", "bank-3"])
def test_a_bank_killed_at_every_boundary(world: World, undisturbed: str, victim: str) -> None:
    world.faults.victims = frozenset({victim})
    row = world.run(world.submit(deadlines=DEADLINES))
    _checked(world, row, undisturbed)
    visited = world.faults.visited[victim]
    assert len(visited) > 60
    for boundary in (
        "before keeping step knots.0",
        "after step update.0.2",
        "before put centring for coordinator",
        "after put histogram for coordinator",
        "got edges of coordinator",
        "before vault keys",
        "after guard",
    ):
        assert boundary in visited


def test_secret_seeds_and_what_they_made_survive_every_kill(world: World) -> None:
    """Without a stated seed nothing can be made twice alike: what is masked again would be other bytes."""
    world.faults.victims = frozenset({"bank-1", "bank-2"})
    world.faults.only = lambda what: "vault" in what or "step" in what
    row = world.run(world.submit(deadlines=DEADLINES, seed=None))
    _checked(world, row, world.store.list_models()[0]["digest"] if row["result"] else "")


def test_the_server_killed_at_every_boundary(world: World, undisturbed: str) -> None:
    world.faults.victims = frozenset({COORDINATOR})
    row = world.run(world.submit(deadlines=DEADLINES))
    _checked(world, row, undisturbed)
    visited = world.faults.visited[COORDINATOR]
    assert {"before opening update.2", "after opening knots", "before model", "after model"} <= set(visited)
    assert len(visited) > 40


def test_everybody_killed_at_every_kept_byte(world: World, undisturbed: str) -> None:
    world.faults.victims = frozenset({*world.nodes, COORDINATOR})
    world.faults.only = lambda what: "vault" in what or "opening" in what
    _checked(world, world.run(world.submit(deadlines=DEADLINES)), undisturbed)


def test_red_a_bank_that_masks_anew_after_a_crash_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: what a step kept is made again (with fresh bytes) when the process comes back."""
    import node.session

    honest = node.session.DurableChannel.once

    def forgetful(self, name, make):  # type: ignore[no-untyped-def]
        if name == "knots.0":
            return make()
        return honest(self, name, make)

    monkeypatch.setattr(node.session.DurableChannel, "once", forgetful)
    ring_noise = iter(range(1, 10_000))
    from bank_node import encoding

    statistics = encoding.knot_statistics

    def drifting(*arguments):  # type: ignore[no-untyped-def]
        return statistics(*arguments) + next(ring_noise)

    monkeypatch.setattr(encoding, "knot_statistics", drifting)
    world.faults.victims = frozenset({"bank-2"})
    world.faults.only = lambda what: what == "after put knots for coordinator"
    row = world.run(world.submit(deadlines=DEADLINES))
    assert row["state"] == "failed"
    assert "LABEL_REUSED" in str(row["cause"])


@pytest.mark.parametrize("step", ["enlist", "session", "train", "finish"])
def test_a_cancelled_job_ends_as_cancelled_whatever_it_is_doing(world: World, step: str) -> None:
    """The run itself may notice before the daemon does."""
    proposal = world.submit(deadlines=DEADLINES)

    def cancel(way: str, bank: str, at: str) -> bool:
        if (way, bank, at) == ("request", "bank-2", step):
            world.store.set_job(proposal.digest, cancel=True)
        return way == "request" and at == step

    world.relay.lose_message = cancel
    row = world.run(proposal)
    assert (row["state"], row["cause"], row["result"]) == ("cancelled", "cancelled by an operator", "")


def test_a_server_that_was_thought_dead_leaves_the_job_to_its_successor(
    world: World, undisturbed: str
) -> None:
    """Two runs of one job, as when the first was only unreachable: the older one ends and ends nothing."""
    proposal = world.submit(deadlines=DEADLINES)
    job, held = proposal.digest, threading.Event()
    honest = server_app.Server._told

    def slow(server: server_app.Server, step: str, *rest: Any, **detail: Any) -> None:
        honest(server, step, *rest, **detail)
        if step == "round 1" and threading.current_thread() is first:
            held.wait(60)

    def run() -> None:
        with acting(COORDINATOR):
            server_app.Server(world.config, world.grid, job).run()  # type: ignore[arg-type]

    over = threading.Event()
    ticker = threading.Thread(target=world._renew, args=(job, over))
    first = threading.Thread(target=run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_app.Server, "_told", slow)
        ticker.start()
        first.start()
        while ("update.1", 0) not in world.store.openings(job):
            time.sleep(0.02)
        second = threading.Thread(target=run)
        second.start()
        while world.store.job(job)["generation"] < 2:  # type: ignore[index]
            time.sleep(0.02)
        held.set()
        first.join()
        second.join()
    over.set()
    ticker.join()
    row = world.store.job(job)
    assert row is not None
    _checked(world, row, undisturbed)
    assert not [event for event in world.store.events(job) if event["kind"] == "failed"]
    # The older run asked for its one round, and for nothing once the newer one had begun.
    asked = [(bank, step) for bank, step, data in world.relay.held if generation_of(data) == 1]
    assert sorted(bank for bank, step in asked if step == "train") == sorted(world.nodes)
    assert "finish" not in {step for _, step in asked}
