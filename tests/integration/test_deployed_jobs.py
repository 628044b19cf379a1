"""Jobs on real processes: the happy path, kill -9 of everything in mid-round, banks that stay away, cancelling."""

from __future__ import annotations

import os
import signal
import warnings
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from flwr.cli.build import build_fab_from_files
from running_lab import DEADLINES, PROCESSES, RECIPE, RunningLab

from coordinator.flower import Control
from node.flower import bundle as bundle_module
from node.flower.shim import call
from node.vault import Vault
from protocol import masking, ring
from protocol.errors import ProtocolError
from protocol.mailbox import COORDINATOR
from protocol.opening import Roster, checked

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def job(lab: RunningLab) -> str:
    """A job that nobody disturbs."""
    job = lab.submit()
    shown = lab.await_end(job)
    assert (shown["state"], shown["attempt"], shown["resumes"]) == ("finished", 0, 0), shown["cause"]
    return job


class TestHappyPath:
    def test_the_deployed_model_is_its_simulated_twin_to_the_bit(
        self, lab: RunningLab, job: str, tmp_path: Path
    ) -> None:
        shown = lab.show(job)
        twin = lab.simulated(tmp_path)
        assert shown["result"]["model"] == twin.model
        figures = {name: value for name, value in twin.figures.items() if name != "privacy"}
        assert shown["result"]["figures"] == figures
        for bank in lab.banks:
            weights = lab.lab.node(bank).path("models", shown["result"]["job"], "weights.f32").read_bytes()
            assert weights == (tmp_path / lab.banks[0] / twin.job / "weights.f32").read_bytes()
        card = lab.lab.call("GET", f"/models/{shown['result']['version']}")["card"]
        assert (card["banks"], card["dropped"], card["attempts"]) == (list(lab.banks), [], 1)

    def test_another_seed_makes_another_model(self, lab: RunningLab, job: str, tmp_path: Path) -> None:
        assert lab.simulated(tmp_path, seed=12).model != lab.show(job)["result"]["model"]

    def test_each_nodes_log_of_what_left_verifies(self, lab: RunningLab, job: str) -> None:
        for bank in lab.banks:
            assert lab.verify_egress(bank).seq > 0
            classes = {row["field_class"] for row in _egress(lab, bank)}
            assert {"masked sum", "masked update", "signature", "figures"} <= classes

    def test_the_coordinator_holds_no_sum_that_it_can_read(
        self, lab: RunningLab, job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The twin's vectors before masking are the deployed ones; none lies anywhere below the coordinator."""
        plain: dict[tuple[str, int], dict[str, np.ndarray]] = {}
        honest = masking.mask

        def recording(vector, *, own, label, **rest):  # type: ignore[no-untyped-def]
            plain.setdefault((label.label, label.round), {})[own] = vector.copy()
            return honest(vector, own=own, label=label, **rest)

        monkeypatch.setattr(masking, "mask", recording)
        lab.simulated(tmp_path)
        opened = lab.store().openings(job)
        assert {name for name, _ in opened} >= {"knots", "centring", "update.1", "update.3", "histogram"}
        roster = Roster("job", 0, lab.banks)
        needles: list[bytes] = []
        for (name, attempt), total in opened.items():
            if name == "session":
                continue
            assert attempt == 0
            use, _, round_ = name.partition(".")
            vectors = plain[(f"h/{use}", int(round_ or 0))]
            truth = np.sum(list(vectors.values()), axis=0, dtype=np.uint64)
            held = ring.from_bytes(total, len(total) // 8)
            with pytest.raises(ProtocolError, match="OPENING_COUNT"):
                checked(held, roster)
            assert not np.any(held == truth)
            needles += [_needle(truth), *(_needle(vector) for vector in vectors.values())]
        home = lab.lab.directory / COORDINATOR
        for path in (path for path in home.rglob("*") if path.is_file()):
            content = path.read_bytes()
            assert not any(needle in content for needle in needles), path.name

    def test_nothing_of_a_finished_job_is_kept_at_the_nodes(self, lab: RunningLab, job: str) -> None:
        for bank in lab.banks:
            vault = Vault(lab.lab.node(bank).path("vault"), bytes(32))
            assert set(vault.jobs()) <= {"finished"}


class TestKills:
    def test_every_process_killed_in_mid_round_and_the_same_model(
        self, lab: RunningLab, tmp_path: Path
    ) -> None:
        recipe = RECIPE.model_copy(update={"rounds": 5})
        job = lab.submit(recipe=recipe)
        one, two, three, four = lab.banks

        after = lab.await_event(job, "round 1", "opened")
        with lab.held(one):
            lab.await_event(job, "train", "asked", one, after=after)
            lab.kill(one, *PROCESSES)

        after = lab.await_event(job, "round 2", "opened")
        with lab.held(two):
            lab.await_event(job, "train", "asked", two, after=after)
            lab.kill(COORDINATOR, "exchange", "daemon")

        after = lab.await_event(job, "round 3", "opened")
        with lab.held(three):
            lab.await_event(job, "train", "asked", three, after=after)
            lab.kill(COORDINATOR, "superlink")

        after = lab.await_event(job, "round 4", "opened")
        with lab.held(four):
            lab.await_event(job, "train", "asked", four, after=after)
            os.kill(lab.client_app(four), signal.SIGKILL)
            os.kill(lab.server_app(), signal.SIGKILL)

        shown = lab.await_end(job)
        assert (shown["state"], shown["attempt"]) == ("finished", 0), shown["cause"]
        assert shown["resumes"] >= 1
        assert shown["result"]["model"] == lab.simulated(tmp_path, recipe=recipe).model
        for bank in lab.banks:
            lab.verify_egress(bank)


class TestCancel:
    def test_a_job_cancelled_in_mid_round_ends_and_is_forgotten(self, lab: RunningLab) -> None:
        job = lab.submit(seed=None)
        bank = lab.banks[0]
        after = lab.await_event(job, "round 1", "opened")
        with lab.held(bank):
            lab.await_event(job, "train", "asked", bank, after=after)
            lab.lab.call("POST", f"/jobs/{job}/cancel")
            shown = lab.await_end(job)
        assert (shown["state"], shown["result"]) == ("cancelled", None)
        for bank in lab.banks:
            vault = Vault(lab.lab.node(bank).path("vault"), bytes(32))
            lab.until(lambda v=vault: set(v.jobs()) <= {"finished"}, f"{bank} to forget the job", 60)


class TestAnotherBundle:
    """Whoever reaches the Control API can start any code as a ServerApp; at the nodes none of it runs."""

    SERVER = """
import time
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()


@app.main()
def main(grid, context):
    messages = [
        Message(RecordDict({"c": ConfigRecord({"x": 1})}), dst_node_id=n, message_type=t, ttl=60.0)
        for n in grid.get_node_ids()
        for t in ("train", "query.enlist")
    ]
    grid.send_and_receive(messages, timeout=60)
"""
    CLIENT = """
from pathlib import Path

Path({marker!r}).write_text("imported")
from node.flower.shim import app
"""

    def test_its_code_runs_at_no_node_and_the_refusal_is_logged(
        self, lab: RunningLab, tmp_path: Path
    ) -> None:
        marker = tmp_path / "ran"
        config = lab.lab.coordinator()
        control = Control(config.listen.superlink, config.path("pki/ca.crt"))
        files = {
            **bundle_module._FILES,
            "concordat_app/server.py": self.SERVER,
            "concordat_app/client.py": self.CLIENT.format(marker=str(marker)),
        }
        with warnings.catch_warnings():
            # Flower's builder uses a pattern class that its own dependency has renamed.
            warnings.simplefilter("ignore", DeprecationWarning)
            made = build_fab_from_files({path: text.encode() for path, text in files.items()})
        before = {bank: len(lab.refusals(bank)) for bank in lab.banks}
        run = control.start(bytes(made[0]), {"job": "f" * 64})
        try:
            for bank in lab.banks:
                lab.until(
                    lambda b=bank: "BUNDLE_REFUSED" in lab.refusals(b)[before[b] :], f"{bank} to refuse", 120
                )
        finally:
            with suppress(httpx.HTTPError):
                control.stop(run)
        assert not marker.exists()

    def test_the_releases_own_bundle_with_a_forged_request_is_refused_by_the_daemon(
        self, lab: RunningLab
    ) -> None:
        """The right code, and a request that nobody signed: the shim passes it on, the daemon answers nothing."""
        bank = lab.banks[0]
        socket = lab.lab.node(bank).socket()
        for request in (b"F", b"F" + b"\0" * 300, b"F\1" + b"\0\0\0\1x" * 4 + bytes(84)):
            with pytest.raises((EOFError, OSError)):
                call(socket, request)
        assert lab.refusals(bank)[-1].startswith("ENVELOPE")


class TestStayingAway:
    """Last in this file: banks are stopped here."""

    # Longer than a message that is lost takes to be sent again.
    SHORT = DEADLINES.model_copy(update={"round": 60})

    def test_without_one_of_four_the_others_start_afresh_and_without_two_the_job_ends(
        self, lab: RunningLab, tmp_path: Path
    ) -> None:
        gone, rest = lab.banks[3], lab.banks[:3]
        try:
            job = lab.submit(deadlines=self.SHORT)
            lab.await_event(job, "round 1", "opened")
            lab.stop(gone)
            shown = lab.await_end(job)
            assert (shown["state"], shown["attempt"]) == ("finished", 1), shown["cause"]
            assert shown["roster"] == list(rest)
            card = lab.lab.call("GET", f"/models/{shown['result']['version']}")["card"]
            assert (card["banks"], card["dropped"], card["attempts"]) == (list(rest), [gone], 2)
            void = [event for event in lab.events(job) if event["kind"] == "void"]
            assert len(void) == 1
            assert gone in str(void[0]["detail"])

            three = lab.submit(rest, deadlines=self.SHORT)
            lab.await_event(three, "round 1", "opened")
            lab.stop(rest[2])
            shown = lab.await_end(three)
            assert (shown["state"], shown["result"]) == ("failed", None)
            assert rest[2] in shown["cause"]
            assert "TOO_FEW_BANKS" in shown["cause"]
        finally:
            for bank in (gone, rest[2]):
                if lab.pid(bank, "daemon") == 0:
                    lab.start(bank)


def _needle(vector: np.ndarray) -> bytes:
    """Four consecutive elements that are unlikely to stand anywhere by chance."""
    data = ring.to_bytes(vector)
    start = next(i for i in range(0, len(data) - 32, 8) if len(set(data[i : i + 32])) > 12)
    return data[start : start + 32]


def _egress(lab: RunningLab, bank: str) -> list[dict[str, object]]:
    from dataclasses import asdict

    from node.egress import _rows

    return [asdict(record) for record, _, _ in _rows(lab.node_store(bank))]
