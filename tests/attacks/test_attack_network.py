"""An intruder in a network namespace of its own, who reaches the consortium through its edge only.

With the CA certificate alone nothing of Flower's Control and Runtime APIs, no task, no object and no membership can be
had; with a member's own keys nothing of another member's.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from outside import Outside
from running_lab import CONSORTIUM, RunningLab

from coordinator.authority import Authority
from node.keystore import Keystore, write_private
from protocol import document
from protocol.mailbox import COORDINATOR, object_name

pytestmark = [pytest.mark.integration, pytest.mark.namespace, pytest.mark.timeout(600)]
INTRUDER = Path(__file__).with_name("intruder.py")
FLEET_ROUTES = ("pull-messages", "push-messages", "get-run", "get-fab", "pull-object", "activate-node")


class Intruder:
    """Runs ``intruder.py`` in the namespace."""

    def __init__(self, outside: Outside, lab: RunningLab) -> None:
        self._outside, self._lab = outside, lab
        config = lab.lab.coordinator()
        self.public, self.exchange = config.listen.public, config.listen.exchange
        self.superlink = config.listen.superlink
        self.authority = str(config.path("pki/ca.crt"))

    def __call__(self, task: str, **arguments: Any) -> dict[str, Any]:
        # Flower's client keeps a log and a configuration below its home.
        environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
        done = subprocess.run(
            [*self._outside.enter, sys.executable, "-W", "ignore", str(INTRUDER), task],
            input=json.dumps(arguments),
            capture_output=True,
            text=True,
            timeout=240,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def intruder(outside: Outside | None, lab: RunningLab) -> Intruder:
    if outside is None:
        pytest.skip("needs root and iproute2, to make a network namespace")
    return Intruder(outside, lab)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


class TestWithTheAuthoritysCertificateOnly:
    def test_two_ports_answer_and_no_other(self, intruder: Intruder, lab: RunningLab) -> None:
        host = intruder.public.rpartition(":")[0]
        inner = [_port(intruder.superlink), *(_port(lab.lab.node(b).flower.runtime) for b in lab.banks)]
        outer = [_port(intruder.public), _port(intruder.exchange)]
        found = intruder("ports", host=host, numbers=[*outer, *inner, 22, 4222, 8222])
        assert found["open"] == outer

    def test_the_control_api_is_out_of_reach(self, intruder: Intruder) -> None:
        host = intruder.public.rpartition(":")[0]
        inner = f"{host}:{_port(intruder.superlink)}"
        found = intruder(
            "control", addresses=[intruder.public, inner, intruder.superlink], authority=intruder.authority
        )
        assert set(found[intruder.public].values()) == {"http 404"}
        for address in (inner, intruder.superlink):
            assert set(found[address].values()) == {"ConnectError"}

    def test_no_path_of_the_edge_leads_elsewhere(self, intruder: Intruder) -> None:
        paths = [
            "/v1/control/list-runs",
            "/v1/control/start-run",
            "/v1/runtime/acquire-task",
            "/v1/runtime/pull-task-input",
            "/v1/fleet/../control/start-run",
            "/v1/fleet/..%2fcontrol%2fstart-run",
            "/v1/fleet/%2e%2e/control/start-run",
            "/v1/fleet//v1/control/start-run",
            "/v1/fleet/pull-messages/../../control/start-run",
            "/v1/fleet/x%3f",
            "/v1/fleet/pull-messages%00",
            "/v1/fleet/https:%2f%2fexample.org",
            "/jobs",
            "/invitations",
            "/parties",
            "/models",
            "/openapi.json",
            "/docs",
        ]
        found = intruder("edge", address=intruder.public, authority=intruder.authority, paths=paths)
        assert {path: status for path, status in found.items() if status not in (404, 405)} == {}

    def test_fleet_routes_ask_for_a_nodes_signature(self, intruder: Intruder) -> None:
        paths = [f"/v1/fleet/{route}" for route in FLEET_ROUTES]
        found = intruder("edge", address=intruder.public, authority=intruder.authority, paths=paths)
        assert set(found.values()) <= {400, 401, 403, 415}, found

    def test_a_supernode_key_that_nobody_registered_is_refused(self, intruder: Intruder) -> None:
        found = intruder("fleet", address=intruder.public, authority=intruder.authority)
        for tried in found.values():
            assert not any(result == "done" for result in tried.values()), found
            assert all(result.startswith("http 4") for result in tried.values()), found

    def test_a_body_without_an_end_is_cut_off(self, intruder: Intruder) -> None:
        found = intruder("flood", address=intruder.public, authority=intruder.authority, megabytes=200)
        assert found["status"] == 413 or found["sent"] < 100, found

    def test_the_exchange_asks_for_a_members_certificate(self, intruder: Intruder, tmp_path: Path) -> None:
        stranger = Authority.create(CONSORTIUM)
        key = Keystore.create(tmp_path / "keys", b"p" * 16)
        forged = stranger.issue_client(key.certificate_request("bank-1"), "bank-1")
        write_private(tmp_path / "forged.pem", forged + _clear_key(tmp_path / "keys"))
        found = intruder(
            "exchange",
            address=intruder.exchange,
            authority=intruder.authority,
            certificates={"another authority's": str(tmp_path / "forged.pem")},
        )
        assert len(found) == 2
        assert "connected" not in found.values(), found


class TestWithAMembersKeys:
    @pytest.fixture(scope="class")
    @classmethod
    def found(cls, intruder: Intruder, lab: RunningLab) -> dict[str, Any]:
        own = object_name("inbox", 0, 0, "directory", COORDINATOR, "bank-1")
        return intruder(
            "member",
            address=intruder.exchange,
            authority=intruder.authority,
            node=str(lab.lab.directory / "bank-1"),
            consortium=CONSORTIUM,
            other="bank-2",
            own_object=_subject_of(own),
            seconds=3,
        )

    def test_it_reads_its_own_mail(self, found: dict[str, Any]) -> None:
        assert '"message"' in found["asked"]["own inbox"]["reply"]

    def test_it_can_neither_read_nor_list_nor_empty_anothers(self, found: dict[str, Any]) -> None:
        asked = {what: answer for what, answer in found["asked"].items() if what != "own inbox"}
        assert len(asked) > 8
        for what, answer in asked.items():
            assert answer["reply"].startswith("refused"), (what, answer)

    def test_it_can_listen_to_nothing_but_its_own(self, found: dict[str, Any]) -> None:
        refused = {
            subject: count for subject, count in found["listened"].items() if subject != "lease.bank-1"
        }
        assert found["listened"]["lease.bank-1"] == 0
        assert all(count > 0 for count in refused.values()), found["listened"]
        assert not [subject for subject in found["heard"] if subject != "lease.bank-1"]

    def test_it_can_publish_into_nothing_but_its_own(self, found: dict[str, Any]) -> None:
        *forbidden, own = found["published"].items()
        assert own[1] == 0
        assert all(count > 0 for _, count in forbidden), found["published"]

    def test_the_consortium_goes_on(self, found: dict[str, Any], lab: RunningLab) -> None:
        """Whatever was planted in mailboxes stops nobody."""
        assert found
        shown = lab.await_end(lab.submit())
        assert shown["state"] == "finished", shown["cause"]


class TestEnrolment:
    def _request(self, home: Path, name: str, token: str, signer: Keystore | None = None) -> dict[str, Any]:
        keys = Keystore.create(home, b"p" * 16)
        identity = keys.identity()
        body = {
            "token": token,
            "name": name,
            "identity": identity.public.hex,
            "flower_key": keys.flower_public(),
            "certificate_request": keys.certificate_request(name).decode(),
        }
        return document.sign("enrolment", body, name, (signer or keys).identity())

    def test_forged_requests_are_refused(self, intruder: Intruder, lab: RunningLab, tmp_path: Path) -> None:
        # Not admitted at once: an operator compares the fingerprint first, so that the lab stays as it is.
        token = lab.lab.call("POST", "/invitations", {"name": "bank-9", "role": "bank"})["token"]
        good = self._request(tmp_path / "good", "bank-9", token)
        other = Keystore.create(tmp_path / "other", b"p" * 16)
        requests = {
            "made-up token": self._request(tmp_path / "a", "bank-9", secrets.token_urlsafe(32)),
            "another's name": self._request(tmp_path / "b", "bank-8", token),
            "a member's name": self._request(tmp_path / "c", "bank-1", token),
            "the coordinator's name": self._request(tmp_path / "d", COORDINATOR, token),
            "signed by another key": self._request(tmp_path / "e", "bank-9", token, other),
            "good": good,
            "the token again with another key": self._request(tmp_path / "f", "bank-9", token),
            "a changed field": {**good, "body": {**good["body"], "flower_key": "x"}},
            "no body": {"kind": "enrolment"},
        }
        found = intruder(
            "enrol",
            address=intruder.public,
            authority=intruder.authority,
            requests=list(requests.values()),
        )
        answers = dict(zip(requests, found["answers"], strict=True))
        assert answers.pop("good") == [200, "pending"]
        assert all(400 <= status < 500 for status, _ in answers.values()), answers
        assert answers["made-up token"][1] == "INVITATION_INVALID"
        assert answers["another's name"][1] == "INVITATION_INVALID"
        assert answers["the token again with another key"][1] == "INVITATION_USED"
        names = {party["name"] for party in lab.lab.call("GET", "/parties")}
        assert names == {COORDINATOR, *lab.banks}


def _clear_key(keys: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((keys / "tls.key").read_bytes(), b"p" * 16)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _subject_of(name: str) -> str:
    """Return the subject's last token under which the exchange's client keeps an object's description."""
    import base64

    return base64.urlsafe_b64encode(name.encode()).decode()
