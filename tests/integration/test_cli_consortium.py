"""The command line against a running consortium: what operators and modellers see, and what they are refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running_lab import RunningLab
from typer.testing import CliRunner

from concordat.cli.app import app
from protocol.mailbox import COORDINATOR

pytestmark = pytest.mark.integration

JOB = """
title = "Shared bank score"
submitted_by = "modeller"
contract = "contract.json"
banks = {banks}
min_rows = 200
seed = 11
{purpose}

[recipe]
rounds = 2
local_steps = 10
bins = 4
hidden = [8]

[deadlines]
enlist = 120
session = 120
round = 120
finish = 120
"""


def run(*words: str | Path, code: int = 0, **options: Any) -> dict[str, Any]:
    """Run a command with JSON on stdout."""
    result = CliRunner().invoke(app, [*map(str, words), "--format", "json"], **options)
    assert result.exit_code == code, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.fixture
def node(lab: RunningLab) -> Callable[..., dict[str, Any]]:
    """Run a command of a bank's operator."""

    def ask(bank: str, *words: str, code: int = 0) -> dict[str, Any]:
        return run("node", *words, "--config", lab.lab.directory / bank / "node.toml", code=code)

    return ask


@pytest.fixture
def modeller(lab: RunningLab) -> Callable[..., dict[str, Any]]:
    """Run a command at the coordinator."""

    def ask(*words: str | Path, code: int = 0) -> dict[str, Any]:
        file = lab.lab.directory / COORDINATOR / "coordinator.toml"
        return run(*words, "--coordinator", file, code=code)

    return ask


@pytest.fixture
def job_file(lab: RunningLab, tmp_path: Path) -> Callable[..., Path]:
    """Write a job's file beside the contract."""

    def write(purpose: str = "") -> Path:
        (tmp_path / "contract.json").write_text(json.dumps(lab.data.contract().document()))
        file = tmp_path / "job.toml"
        file.write_text(JOB.format(banks=json.dumps(list(lab.banks[:3])), purpose=purpose))
        return file

    return write


def test_a_healthy_node_passes_every_check(lab: RunningLab, node: Callable[..., Any]) -> None:
    bank = lab.banks[0]
    found = node(bank, "doctor")
    assert found["healthy"]
    states = {check["name"]: check["state"] for check in found["checks"]}
    # The lab takes the registry's word for keys, which the doctor doesn't like.
    assert states.pop("directory and pins") == "WARN"
    assert set(states.values()) == {"PASS"}, found
    assert node(bank, "status")["processes"] == dict.fromkeys(("daemon", "supernode"), "running")


def test_the_doctor_finds_a_dead_process(lab: RunningLab, node: Callable[..., Any]) -> None:
    bank = lab.banks[3]
    lab.lab.supervisor.stop(bank, "supernode")
    try:
        found = node(bank, "doctor", code=1)
    finally:
        lab.lab.supervisor.start_one(bank, "supernode")
    failed = {check["name"]: check for check in found["checks"] if check["state"] == "FAIL"}
    assert set(failed) == {"processes"}
    assert "supernode is stopped" in failed["processes"]["what"]


def test_a_running_node_is_not_started_twice(lab: RunningLab) -> None:
    file = lab.lab.directory / lab.banks[0] / "node.toml"
    result = CliRunner().invoke(app, ["node", "run", "--config", str(file)])
    assert result.exit_code == 2
    assert "ALREADY_UP" in result.stderr


def test_the_coordinator_tells_its_parties(lab: RunningLab, modeller: Callable[..., Any]) -> None:
    parties = {party["name"]: party["role"] for party in modeller("coordinator", "parties")["parties"]}
    assert parties == {COORDINATOR: "coordinator", **dict.fromkeys(lab.banks, "bank")}
    answer = modeller("coordinator", "status")
    assert answer["parties"] == len(parties)
    assert set(answer["processes"].values()) == {"running"}


def test_the_consortium_is_shown_whole(lab: RunningLab) -> None:
    answer = run("status", "--dir", lab.lab.directory)
    assert set(answer["nodes"]) == set(lab.banks)
    assert set(answer["processes"].values()) == {"running"}


def test_refusals_of_the_coordinator_keep_code_and_class(
    lab: RunningLab, modeller: Callable[..., Any]
) -> None:
    assert modeller("job", "show", "ffff", code=2)["title"] == "JOB_UNKNOWN"
    assert modeller("model", "show", "99", code=2)["title"] == "MODEL_UNKNOWN"
    asked = ("coordinator", "admit", "nobody", "--fingerprint", "x")
    assert modeller(*asked, code=5)["title"] == "ENROLMENT_UNKNOWN"
    again = ("coordinator", "invite", lab.banks[0], "--role", "bank")
    file = lab.lab.directory / COORDINATOR / "coordinator.toml"
    refused = CliRunner().invoke(app, [*again, "--config", str(file)])
    assert refused.exit_code == 2
    assert "PARTY_EXISTS" in refused.stderr
    assert refused.stdout == ""


def test_a_job_from_its_file_to_its_model(
    lab: RunningLab, modeller: Callable[..., Any], node: Callable[..., Any], job_file: Callable[..., Path]
) -> None:
    file = job_file()
    assert modeller("job", "submit", file, "--check")["valid"]
    made = modeller("job", "submit", file)
    ended = modeller("job", "watch", made["id"][:16])
    assert ended["state"] == "finished"
    version = ended["result"]["version"]
    assert modeller("model", "show", str(version))["card"]["banks"] == list(lab.banks[:3])
    assert version in [model["version"] for model in modeller("model", "list")["models"]]
    shown = node(lab.banks[0], "job", "show", made["id"][:16])
    assert shown["state"] == "approved"
    assert shown["code"]["equal"]
    assert shown["contract"]["equal"]
    left = node(lab.banks[0], "egress", "list", "--job", shown["runs"][0], "--last", "0")
    classes = {record["field_class"] for record in left["records"]}
    assert classes <= {entry["what"] for entry in shown["leaves"]}, "the operator was promised less than left"
    assert node(lab.banks[0], "egress", "verify")["records"] == left["head"]["seq"]
    assert modeller("job", "cancel", made["id"][:16], code=2)["title"] == "JOB_ENDED"


def test_a_job_outside_the_limits_waits_for_people(
    lab: RunningLab, modeller: Callable[..., Any], node: Callable[..., Any], job_file: Callable[..., Path]
) -> None:
    made = modeller("job", "submit", job_file('purpose = "collections"'))
    short, bank = made["id"][:16], lab.banks[0]
    lab.until(lambda: node(bank, "job", "list", "--pending")["jobs"] != [], "the proposal", 60)
    shown = node(bank, "job", "show", short)
    assert shown["why_not_approved_without_asking"] == [
        "its purpose is not one of those that are approved without asking"
    ]
    refused = node(bank, "job", "approve", short, code=2)
    assert refused["title"] == "APPROVER_UNNAMED"
    assert node(bank, "job", "reject", short, "--by", "Risk", "--reason", "no consent")["state"] == "rejected"
    assert node(bank, "job", "approve", short, "--by", "Risk", code=2)["title"] == "PROPOSAL_DECIDED"
    ended = modeller("job", "watch", short, code=5)
    assert ended["state"] == "rejected"
    assert bank in ended["cause"]
