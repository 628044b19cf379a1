"""Jobs with data partners on real processes: the twin of one process, kills at each party, silence, the budget."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from running_lab import DEADLINES, RECIPE, SEED, RunningLab

from concordat import dataset
from concordat.demo import COMPUTE
from concordat.economy import write_economy
from concordat.lab import Lab, Member
from concordat.simulate import Simulated, proposal_for, simulate
from node.egress import EgressLog, verify
from node.keep import keep_of
from node.keystore import Keystore
from node.privacy import PrivacyBook
from protocol.identity import Role

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

PARTNERS = ("e-commerce", "government")
TERMS = {
    "partners": PARTNERS,
    "compute": COMPUTE,
    "epoch": "2026-4",
    "base_rate": 0.1,
    "rows": 2048,
    "components": 6,
    "epsilon": None,
    "patience": 120,
    "recipe": {"rounds": 2, "local_steps": 10},
}


class JointLab(RunningLab):
    """A lab with partners and a compute party."""

    @classmethod
    def found(cls, home: Path) -> JointLab:
        write_economy(home / "economy", count=2400, banks=3, seed=11, kind="parquet")
        data = dataset.load(home / "economy")
        document = json.dumps(data.contract().document()).encode()
        lab = Lab(home / "lab")
        members = [
            Member(p.name, p.role, document, data.materialise(p.name, lab.directory / p.name / "data"))
            for p in data.parties
        ]
        lab.create("joint", [*members, Member(COMPUTE, "compute")], exact_releases=True)
        return cls(lab, data, tuple(p.name for p in data.parties if p.role == "bank"))

    def joint(self, **terms: Any) -> dict[str, Any]:
        """Return what a proposal says of the partners."""
        return {"vertical": {**TERMS, **terms}, "witnesses": tuple(sorted([*PARTNERS, COMPUTE]))}

    def twin(self, models: Path, **terms: Any) -> Simulated:
        """Return the same job in one process."""
        wanted = {"recipe": RECIPE, "deadlines": DEADLINES, "seed": SEED, **self.joint(**terms)}
        partners = {name: (Role(name), self.data.table(name)) for name in PARTNERS}
        tables = {name: self.data.table(name) for name in self.banks}
        contract = self.data.contract()
        return simulate(
            proposal_for(self.banks, contract, "joint", **wanted), contract, tables, models, partners=partners
        )

    def left(self, name: str) -> list[str]:
        """Return the purposes of what has left a node, in order; the log is verified."""
        config = self.lab.node(name)
        store, key = self.node_store(name), Keystore(config.path("keys"), config.passphrase()).identity()
        verify(store, key.public, {})
        return [record.purpose for record in EgressLog(store, key, config.path("egress.head")).records()]

    def await_left(self, name: str, prefix: str, count: int) -> None:
        """Wait until a node has released more than so many messages of a kind."""
        self.until(
            lambda: sum(purpose.startswith(prefix) for purpose in self.left(name)) > count,
            f"{prefix} of {name}",
        )

    def released(self, name: str, prefix: str) -> int:
        """Return how many messages of a kind have left a node."""
        return sum(purpose.startswith(prefix) for purpose in self.left(name))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JointLab]:
    made = JointLab.found(tmp_path_factory.mktemp("joint"))
    made.lab.up(patience=180)
    try:
        yield made
    finally:
        with suppress(Exception):
            made.lab.down()


@pytest.fixture(scope="module")
def job(lab: JointLab) -> str:
    made = lab.submit(**lab.joint())
    shown = lab.await_end(made, 400)
    assert shown["state"] == "finished", shown["cause"]
    return made


@pytest.fixture(scope="module")
def twin(lab: JointLab, tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return lab.twin(tmp_path_factory.mktemp("twin"))


def test_the_deployed_model_is_the_simulated_one(lab: JointLab, job: str, twin: Simulated) -> None:
    result = lab.show(job)["result"]
    assert result["figures"]["partners"] == list(PARTNERS)
    assert result["model"] == twin.model


def test_partners_and_the_compute_party_run_nothing_of_flower(lab: JointLab, job: str) -> None:
    names = {each["name"] for each in lab.lab.supervisor.processes()}
    for party in (*PARTNERS, COMPUTE):
        assert {name for name in names if name.startswith(f"{party}.")} == {f"{party}.daemon"}


def test_every_release_is_in_a_log_that_verifies(lab: JointLab, job: str) -> None:
    for bank in lab.banks:
        left = lab.left(bank)
        assert {"ask.training.0", "ask.serving.0", "pad-seed", "share"} <= set(left)
        assert [purpose for purpose in left if purpose.startswith("dense.")]
    for partner in PARTNERS:
        assert {"answer.training.0", "table.0", "share-seeds", "publication", "bins.0"} <= set(
            lab.left(partner)
        )
    assert lab.left(COMPUTE).count("opening") >= len(PARTNERS)


def test_nothing_of_a_finished_job_is_kept_at_partners_and_compute_party(lab: JointLab, job: str) -> None:
    for party in (*PARTNERS, COMPUTE):
        vault = lab.lab.node(party).path("vault")
        lab.until(lambda vault=vault: not list(vault.glob("*/key")), f"the vault of {party}")  # type: ignore[misc]


def test_killed_at_each_step_the_job_goes_on(lab: JointLab, job: str, twin: Simulated) -> None:
    """kill -9: a partner while it answers, a bank and T while products travel, NATS, a partner that publishes."""
    # Another epoch: everything is asked and answered anew.
    terms = {"epoch": "2027-1"}
    before = {name: lab.released(name, prefix) for name, prefix in WATCHED.items()}
    made = lab.submit(**lab.joint(**terms))
    lab.await_left("e-commerce", WATCHED["e-commerce"], before["e-commerce"])
    lab.kill("e-commerce", "daemon")
    lab.await_left("bank-1", WATCHED["bank-1"], before["bank-1"])
    lab.kill("bank-1", "daemon")
    lab.kill(COMPUTE, "daemon")
    lab.await_left("government", WATCHED["government"], before["government"])
    lab.kill("coordinator", "exchange")
    lab.kill("government", "daemon")
    shown = lab.await_end(made, 600)
    assert shown["state"] == "finished", shown["cause"]
    assert shown["result"]["figures"]["partners"] == list(PARTNERS)
    assert shown["result"]["model"] == twin.model


WATCHED = {"e-commerce": "answer.training", "bank-1": "dense.", "government": "publication"}


def test_a_silent_partner_is_left_out_and_the_others_go_on(lab: JointLab, job: str) -> None:
    number = lab.pid("government", "daemon")
    made = lab.submit(**lab.joint(patience=20))
    lab.await_event(made, "enlist", "done")
    os.kill(number, signal.SIGSTOP)
    try:
        shown = lab.await_end(made, 500)
    finally:
        os.kill(number, signal.SIGCONT)
    assert shown["state"] == "finished", shown["cause"]
    assert shown["result"]["figures"]["partners"] == ["e-commerce"]


def test_every_signer_charges_a_private_release(lab: JointLab, job: str) -> None:
    made = lab.submit(**lab.joint(epsilon=1.0))
    shown = lab.await_end(made, 400)
    assert shown["state"] == "finished", shown["cause"]
    for party in (*lab.banks, COMPUTE):
        charges = PrivacyBook(keep_of(lab.lab.node(party))).spent().charges
        assert sorted(charge.partner for charge in charges) == sorted(PARTNERS)
