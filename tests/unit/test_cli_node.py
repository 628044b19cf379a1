"""Commands of a node's operator, without a running node: set-up, table, decisions, egress log, examination."""

import datetime
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from typer.testing import CliRunner, Result

from concordat.cli import checkup
from concordat.cli.app import app
from concordat.cli.job_terms import leaving
from node.config import NodeConfig, load
from node.egress import EgressLog
from node.enrolment import append
from node.flower.bundle import code_hash
from node.keystore import Keystore
from node.store import Store, egress
from protocol import contract as contracts
from protocol.contract import DataContract, Dataset, Field
from protocol.job import Proposal, Release, Vertical

NAME = "north-bank"
CONTRACT = DataContract(
    consortium="Test",
    name="Contract",
    datasets=(
        Dataset(
            role="bank",
            name="Clients",
            id_type="opaque",
            label="default",
            fields=(Field(name="assets", type="number", minimum=0.0), Field(name="staff", type="number")),
        ),
    ),
)
TABLE = "id,default,assets,staff\n" + "".join(f"e{n},{n % 2},{n * 10},{n}\n" for n in range(20))
DATA = '[data]\nfile = "t.csv"\nid = "id"\nlabel = "default"\n'
LIMITS = (
    '[approval]\napprover = "Risk office"\n[approval.auto_approve]\nreleases = ["dp"]\nmax_epsilon = 2.0\n'
)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def answer(result: Result, code: int = 0) -> dict[str, Any]:
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The configuration of a bank's node that has a table, a contract and a database, and is not enrolled."""
    home = tmp_path / "n"
    assert run("node", "init", "--name", NAME, "--role", "bank", "--dir", home).exit_code == 0
    (home / "data").mkdir()
    (home / "data/contract.json").write_text(json.dumps(CONTRACT.document()))
    (home / "t.csv").write_text(TABLE)
    append(home / "node.toml", DATA)
    return home / "node.toml"


def store_of(file: Path) -> Store:
    config = load(file)
    return Store.open(config.database_url(config.database.url))


def keys_of(config: NodeConfig) -> Keystore:
    return Keystore(config.path("keys"), config.passphrase())


class TestInit:
    def test_makes_a_node_whose_secrets_only_its_owner_reads(self, tmp_path: Path) -> None:
        found = answer(
            run("node", "init", "--name", NAME, "--role", "bank", "--dir", tmp_path / "n", "--format", "json")
        )
        config = load(Path(found["config"]))
        assert found["fingerprint"] == keys_of(config).identity().public.fingerprint
        secret = [path for path in (tmp_path / "n").rglob("*") if path.is_file()]
        assert len(secret) >= 5
        assert all(path.stat().st_mode & 0o077 == 0 for path in secret)

    def test_makes_only_keys_for_a_configuration_that_is_there(self, tmp_path: Path) -> None:
        file = tmp_path / "node.toml"
        file.write_text('[node]\nname = "north-bank"\nrole = "compute"\n')
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret/passphrase").write_text("a passphrase of a test")
        (tmp_path / "secret/passphrase").chmod(0o600)
        assert answer(run("node", "init", "--config", file, "--format", "json"))["role"] == "compute"
        assert "KEYS_EXIST" in run("node", "init", "--config", file).stderr

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (["--name", "North Bank", "--role", "bank"], "CONFIG_INVALID"),
            (["--name", "north", "--role", "banker"], "CONFIG_INVALID"),
            (["--name", "north"], "CONFIG_INVALID"),
            ([], "NODE_UNNAMED"),
        ],
    )
    def test_refuses_what_is_no_node(self, tmp_path: Path, words: list[str], code: str) -> None:
        result = run("node", "init", *words, "--dir", tmp_path / "x", "--config", tmp_path / "none.toml")
        assert result.exit_code == 2
        assert code in result.stderr
        assert list(tmp_path.iterdir()) == []

    def test_never_overwrites(self, file: Path) -> None:
        before = {path: path.read_bytes() for path in file.parent.rglob("*") if path.is_file()}
        result = run("node", "init", "--name", NAME, "--role", "bank", "--dir", file.parent)
        assert "NODE_EXISTS" in result.stderr
        assert {path: path.read_bytes() for path in file.parent.rglob("*") if path.is_file()} == before


class TestEnroll:
    @pytest.mark.parametrize(
        ("content", "code"),
        [
            ("not JSON", "INVITATION_MALFORMED"),
            ("[]", "INVITATION_MALFORMED"),
            ('{"name": "north-bank"}', "INVITATION_MALFORMED"),
            (None, "INVITATION_UNREADABLE"),
        ],
    )
    def test_refuses_what_is_no_invitation(self, file: Path, content: str | None, code: str) -> None:
        invitation = file.with_name("invitation.json")
        if content is not None:
            invitation.write_text(content)
        result = run("node", "enroll", invitation, "--config", file)
        assert result.exit_code == 2
        assert code in result.stderr

    def test_reads_standard_input(self, file: Path) -> None:
        result = CliRunner().invoke(app, ["node", "enroll", "-", "--config", str(file)], input="{}")
        assert "INVITATION_MALFORMED" in result.stderr
        assert keys_of(load(file)).identity().public.fingerprint in result.stderr


@pytest.mark.parametrize("words", [["run"], ["status"]])
def test_a_node_that_is_not_enrolled_or_down_says_so(file: Path, words: list[str]) -> None:
    result = run("node", *words, "--config", file)
    assert result.exit_code == (2 if words == ["run"] else 7)
    assert ("NODE_NOT_ENROLLED" if words == ["run"] else "NODE_DOWN") in result.stderr


class TestDataCheck:
    def test_prints_the_report(self, file: Path) -> None:
        found = answer(run("node", "data", "check", "--config", file, "--format", "json"))
        assert (found["rows_read"], found["rows_clean"], found["rows_rejected"]) == (20, 20, 0)
        assert found["contract"] == CONTRACT.digest
        assert "rows read              20" in run("node", "data", "check", "--config", file).stdout

    def test_names_line_and_field_and_never_a_value(self, file: Path) -> None:
        (file.parent / "t.csv").write_text(TABLE + "secret-id,0,-77123,5\n")
        result = run("node", "data", "check", "--config", file)
        assert result.exit_code == 3
        assert "field assets" in result.stderr
        assert "line 22" in result.stderr
        assert "77123" not in result.output
        assert "secret-id" not in result.output

    def test_sets_bad_rows_aside_where_it_is_asked_to(self, file: Path, tmp_path: Path) -> None:
        (file.parent / "t.csv").write_text(TABLE + "bad,0,-77123,5\n")
        aside = tmp_path / "rejects.csv"
        result = run("node", "data", "check", "--rejects", aside, "--config", file, "--format", "json")
        found = answer(result, 3)
        assert (found["rows_read"], found["rows_clean"], found["rows_rejected"]) == (21, 20, 1)
        assert "77123" in aside.read_text()
        assert "77123" not in result.output
        assert aside.stat().st_mode & 0o077 == 0

    @pytest.mark.parametrize(
        ("spoil", "exit_code", "code"),
        [
            (lambda home: (home / "t.csv").unlink(), 3, "DATA_FILE_UNREADABLE"),
            (lambda home: (home / "data/contract.json").unlink(), 2, "CONTRACT_UNREADABLE"),
            (lambda home: (home / "data/contract.json").write_text("{}"), 2, "CONTRACT_INVALID"),
            (
                lambda home: (home / "t.csv").write_text(TABLE.replace("assets", "asets")),
                3,
                "DATA_MISSING_COLUMN",
            ),
        ],
    )
    def test_refuses_on_one_screen(
        self, file: Path, spoil: Callable[[Path], object], exit_code: int, code: str
    ) -> None:
        spoil(file.parent)
        result = run("node", "data", "check", "--config", file)
        assert result.exit_code == exit_code
        assert code in result.stderr
        assert len(result.stderr.splitlines()) < 25

    def test_a_node_without_a_table_says_so(self, tmp_path: Path) -> None:
        run("node", "init", "--name", NAME, "--role", "bank", "--dir", tmp_path / "m")
        assert "NODE_NO_DATA" in run("node", "data", "check", "--config", tmp_path / "m/node.toml").stderr


def proposal_of(**changes: Any) -> Proposal:
    body: dict[str, Any] = {
        "consortium": "Test",
        "title": "Shared bank score",
        "purpose": "train",
        "banks": ("east-bank", NAME, "west-bank"),
        "contract": CONTRACT.digest,
        "code": code_hash(),
        "submitted_by": "modeller",
        "submitted_at": int(time.time()),
        "nonce": "ab" * 32,
        **changes,
    }
    return Proposal.model_validate(body)


@pytest.fixture
def propose(file: Path) -> Callable[..., str]:
    """Put a proposal on the node's desk; returns its digest."""

    def put(**changes: Any) -> str:
        proposal = proposal_of(**changes)
        # The daemon has checked who signed it; the desk reads what the daemon has kept.
        store_of(file).add_proposal(proposal.digest, {"body": proposal.body})
        return proposal.digest

    return put


class TestJobs:
    def test_are_listed(self, file: Path, propose: Callable[..., str]) -> None:
        store_of(file)
        assert answer(run("node", "job", "list", "--config", file, "--format", "json"))["jobs"] == []
        job = propose()
        found = answer(run("node", "job", "list", "--pending", "--config", file, "--format", "json"))
        assert [entry["job"] for entry in found["jobs"]] == [job]
        assert job[:12] in run("node", "job", "list", "--config", file).stdout

    def test_are_told_plainly(self, file: Path, propose: Callable[..., str]) -> None:
        append(file, LIMITS)
        text = run("node", "job", "show", propose()[:12], "--config", file).stdout
        for said in (
            "no privacy guarantee",
            "equals the installed release",
            "equals this node's contract",
            "east-bank, north-bank, west-bank",
            "masked update",
            "its release is none",
        ):
            assert said in text

    def test_tell_epsilon_and_every_difference(self, file: Path, propose: Callable[..., str]) -> None:
        append(file, LIMITS)
        job = propose(
            release=Release(kind="dp", epsilon=3.0, delta=1e-5),
            code="0" * 64,
            contract="1" * 64,
            purpose="sell",
        )
        result = run("node", "job", "show", job, "--config", file, "--format", "json")
        found = answer(result)
        assert (found["code"]["equal"], found["contract"]["equal"]) == (False, False)
        assert found["why_not_approved_without_asking"] == [
            "it names other code than the installed release",
            "its purpose is not one of those that are approved without asking",
            "its epsilon is above 2.0",
        ]
        text = run("node", "job", "show", job, "--config", file).stdout
        assert "epsilon 3, delta 1e-05" in text
        assert text.count("DIFFERS") == 2

    def test_wait_for_a_person_where_no_limits_are_set(self, file: Path, propose: Callable[..., str]) -> None:
        found = answer(run("node", "job", "show", propose(), "--config", file, "--format", "json"))
        assert found["why_not_approved_without_asking"] == [
            "this node's configuration sets no limits for approval without asking"
        ]

    @pytest.mark.parametrize("job", ["ffff", ""])
    def test_are_named_by_one_beginning(self, file: Path, propose: Callable[..., str], job: str) -> None:
        propose(title="one", nonce="cd" * 32)
        propose(title="two", nonce="ef" * 32)
        result = run("node", "job", "show", job, "--config", file)
        assert result.exit_code == 2
        assert "PROPOSAL_UNKNOWN" in result.stderr

    @pytest.mark.parametrize(("verb", "state"), [("approve", "approved"), ("reject", "rejected")])
    def test_are_decided_once(self, file: Path, propose: Callable[..., str], verb: str, state: str) -> None:
        job = propose()
        words = ("node", "job", verb, job[:12], "--config", file)
        assert "APPROVER_UNNAMED" in run(*words).stderr
        append(file, LIMITS)
        found = answer(run(*words, "--reason", "as agreed", "--format", "json"))
        assert (found["state"], found["decided_by"], found["reason"]) == (state, "Risk office", "as agreed")
        kept = store_of(file).proposal(job)
        assert kept is not None
        assert json.loads(kept["approval"])["body"]["decision"] == verb
        for again in ("approve", "reject"):
            result = run("node", "job", again, job[:12], "--config", file)
            assert result.exit_code == 2
            assert "PROPOSAL_DECIDED" in result.stderr

    @pytest.mark.parametrize(
        ("changes", "code"),
        [({"code": "0" * 64}, "CODE_DIFFERS"), ({"contract": "1" * 64}, "CONTRACT_DIFFERS")],
    )
    def test_that_cannot_run_here_cannot_be_approved(
        self, file: Path, propose: Callable[..., str], changes: dict[str, str], code: str
    ) -> None:
        job = propose(**changes)
        result = run("node", "job", "approve", job, "--by", "Risk office", "--config", file)
        assert result.exit_code == 5
        assert code in result.stderr
        kept = store_of(file).proposal(job)
        assert kept is not None
        assert kept["state"] == "pending"
        assert run("node", "job", "reject", job, "--by", "Risk office", "--config", file).exit_code == 0

    @pytest.mark.parametrize(
        "words", [["--by", "x" * 201], ["--by", "a\nb"], ["--by", "x", "--reason", "r" * 501]]
    )
    def test_take_no_endless_words(self, file: Path, propose: Callable[..., str], words: list[str]) -> None:
        result = run("node", "job", "approve", propose(), *words, "--config", file)
        assert result.exit_code == 2
        assert "DECISION_TEXT" in result.stderr

    def test_ask_a_witness_for_less(self) -> None:
        proposal = proposal_of(witnesses=("tax-office",))
        of_bank = {entry.what for entry in leaving(proposal, NAME, "bank")}
        of_witness = {entry.what for entry in leaving(proposal, "tax-office", "government")}
        assert "masked update" in of_bank
        assert not {"masked update", "masked sum", "sealed key"} & of_witness

    def test_with_partners_say_what_each_party_gives(self) -> None:
        vertical = Vertical(partners=("shop",), compute="sums", epoch="e", base_rate=0.2, rows=1000)
        proposal = proposal_of(witnesses=("shop", "sums"), vertical=vertical)
        of = {
            party: {(entry.what, entry.to) for entry in leaving(proposal, party, role)}
            for party, role in ((NAME, "bank"), ("shop", "e-commerce"), ("sums", "compute"))
        }
        assert {("blinded points", "each partner"), ("masked product", "sums")} <= of[NAME]
        assert ("masked table", "each bank") in of["shop"]
        assert ("masked sum", "each partner") in of["sums"]
        assert not {"blinded points", "masked table"} & {what for what, _ in of["sums"]}

    def test_with_partners_show_the_budget_before_the_decision(
        self, file: Path, propose: Callable[..., str]
    ) -> None:
        vertical = Vertical(partners=("shop",), compute="sums", epoch="e", base_rate=0.2, rows=1000)
        job = propose(witnesses=("shop", "sums"), vertical=vertical.body)
        shown = answer(run("node", "job", "show", job, "--config", file, "--format", "json"))
        (cost,) = shown["privacy"]
        assert (cost["partner"], cost["now"]) == ("shop", 0.0)
        assert cost["after"] == pytest.approx(1.0, abs=0.01)
        assert "with this job" in run("node", "job", "show", job, "--config", file).stdout


class TestEgress:
    @pytest.fixture
    def log(self, file: Path) -> EgressLog:
        config = load(file)
        made = EgressLog(store_of(file), keys_of(config).identity(), config.path("egress.head"))
        for n in range(3):
            made.append(
                peer="coordinator" if n else "east-bank",
                purpose=f"train round {n}",
                job="aa" * 32,
                field_class="masked update",
                payload=bytes(n + 1),
            )
        return made

    def test_is_listed_and_filtered(self, file: Path, log: EgressLog) -> None:
        words = ("node", "egress", "list", "--config", file, "--format", "json")
        found = answer(run(*words))
        assert (found["matching"], found["bytes"]) == (3, 6)
        assert [r["seq"] for r in answer(run(*words, "--last", "1"))["records"]] == [3]
        assert [r["seq"] for r in answer(run(*words, "--peer", "east-bank"))["records"]] == [1]
        assert answer(run(*words, "--job", "bb"))["records"] == []
        assert "masked update" in run(*words[:-2]).stdout

    def test_is_verified_against_every_head(self, file: Path, log: EgressLog, tmp_path: Path) -> None:
        kept = tmp_path / "kept.head"
        kept.write_bytes((file.parent / "egress.head").read_bytes())
        log.append(peer="coordinator", purpose="more", job="", field_class="digest", payload=b"x")
        found = answer(
            run("node", "egress", "verify", "--against", kept, "--config", file, "--format", "json")
        )
        assert (found["records"], len(found["heads"])) == (4, 2)
        assert run("node", "egress", "verify", "--config", file).stdout.startswith("PASS  4 records")

    @pytest.mark.parametrize(
        ("spoil", "code"),
        [
            (egress.update().where(egress.c.seq == 2).values(record="{}"), "EGRESS_ALTERED"),
            (egress.update().where(egress.c.seq == 2).values(signature="00" * 64), "EGRESS_ALTERED"),
            (egress.delete().where(egress.c.seq == 2), "EGRESS_GAP"),
            (egress.delete().where(egress.c.seq == 3), "EGRESS_CUT"),
            (egress.delete(), "EGRESS_CUT"),
        ],
    )
    def test_tells_what_was_done_to_it(self, file: Path, log: EgressLog, spoil: Any, code: str) -> None:
        with store_of(file).engine.begin() as db:
            db.execute(spoil)
        result = run("node", "egress", "verify", "--config", file, "--format", "json")
        assert answer(result, 4)["title"] == code

    def test_misses_a_head_file_that_was_removed(self, file: Path, log: EgressLog) -> None:
        (file.parent / "egress.head").unlink()
        assert "EGRESS_HEAD_MISSING" in run("node", "egress", "verify", "--config", file).stderr

    @pytest.mark.parametrize(
        ("content", "code"),
        [
            ("{}", "HEAD_MALFORMED"),
            ('{"seq": "1", "digest": "x"}', "HEAD_MALFORMED"),
            (None, "HEAD_UNREADABLE"),
        ],
    )
    def test_refuses_what_is_no_head(
        self, file: Path, log: EgressLog, tmp_path: Path, content: str | None, code: str
    ) -> None:
        head = tmp_path / "x.head"
        if content is not None:
            head.write_text(content)
        result = run("node", "egress", "verify", "--against", head, "--config", file)
        assert result.exit_code == 2
        assert code in result.stderr


def states(file: Path) -> dict[str, checkup.Finding]:
    return {finding.name: finding for finding in checkup.examine(file)}


class TestDoctor:
    def test_of_a_new_node_says_what_is_next(self, file: Path) -> None:
        result = run("node", "doctor", "--config", file, "--format", "json")
        found = answer(result, 1)
        failed = [check["name"] for check in found["checks"] if check["state"] == "FAIL"]
        assert failed == ["enrolment"]
        assert all(check.get("fix") for check in found["checks"] if check["state"] in ("FAIL", "WARN"))
        text = run("node", "doctor", "--config", file).stdout
        assert "FAIL  enrolment" in text
        assert "fix: Ask the coordinator's operator" in text

    def test_of_a_broken_configuration_stops_there(self, file: Path) -> None:
        file.write_text(file.read_text().replace("runtime", "rutnime"))
        found = list(checkup.examine(file))
        assert [(finding.name, finding.state) for finding in found] == [("configuration", "FAIL")]
        assert "did you mean runtime" in found[0].what

    def test_finds_a_passphrase_that_others_read(self, file: Path) -> None:
        (file.parent / "secret/passphrase").chmod(0o644)
        found = states(file)
        assert found["passphrase"].state == "FAIL"
        assert found["keys"].state == "SKIP"

    def test_finds_keys_of_another_passphrase(self, file: Path) -> None:
        (file.parent / "secret/passphrase").write_text("another passphrase altogether")
        assert states(file)["keys"].state == "FAIL"

    def test_finds_a_table_that_breaks_the_contract(self, file: Path) -> None:
        (file.parent / "t.csv").write_text(TABLE.replace("assets", "asets"))
        assert states(file)["table"].state == "FAIL"

    def test_finds_a_schema_of_another_release(self, file: Path) -> None:
        store = store_of(file)
        assert states(file)["database"].state == "PASS"
        with store.engine.begin() as db:
            db.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        assert states(file)["database"].state == "FAIL"

    def test_finds_a_log_that_was_altered(self, file: Path) -> None:
        config = load(file)
        log = EgressLog(store_of(file), keys_of(config).identity(), config.path("egress.head"))
        log.append(peer="c", purpose="p", job="", field_class="digest", payload=b"x")
        assert states(file)["egress log"].state == "PASS"
        with store_of(file).engine.begin() as db:
            db.execute(egress.delete())
        assert states(file)["egress log"].state == "FAIL"

    def test_finds_jobs_of_another_release(self, file: Path, propose: Callable[..., str]) -> None:
        propose()
        assert states(file)["release"].state == "PASS"
        propose(code="0" * 64)
        assert states(file)["release"].state == "FAIL"

    @pytest.mark.parametrize(("free", "state"), [(100 << 30, "PASS"), (2 << 30, "WARN"), (100 << 20, "FAIL")])
    def test_looks_for_room(self, file: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free}))
        assert states(file)["disk"].state == state

    @pytest.mark.parametrize(("seconds", "state"), [(0, "PASS"), (20, "PASS"), (45, "FAIL"), (-3600, "FAIL")])
    def test_compares_clocks(self, file: Path, seconds: int, state: str) -> None:
        now = time.time()
        told = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        patient = checkup.Patient(load(file), date=now + seconds, facts={"date": told})
        assert checkup._made("clock", checkup.clock, patient).state == state

    @pytest.mark.parametrize(
        ("days", "name", "own", "state"),
        [
            (300, NAME, True, "PASS"),
            (10, NAME, True, "WARN"),
            (-2, NAME, True, "FAIL"),
            (300, "east-bank", True, "FAIL"),
            (300, NAME, False, "FAIL"),
        ],
    )
    def test_reads_the_certificate(
        self, file: Path, monkeypatch: pytest.MonkeyPatch, days: int, name: str, own: bool, state: str
    ) -> None:
        from coordinator.authority import Authority

        monkeypatch.setattr(checkup, "DIAL_SECONDS", 0.3)
        home = file.parent
        authority, other = Authority.create("Test"), Authority.create("Other")
        request = x509.load_pem_x509_csr(keys_of(load(file)).certificate_request(name))
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.load_pem_x509_certificate(authority.certificate_pem())
        made = (
            x509.CertificateBuilder()
            .subject_name(request.subject)
            .issuer_name(issuer.subject)
            .public_key(request.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=30))
            .not_valid_after(now + datetime.timedelta(days=days, hours=1))
            .sign((authority if own else other)._key, hashes.SHA256())
        )
        from cryptography.hazmat.primitives.serialization import Encoding

        (home / "keys/tls.crt").write_bytes(made.public_bytes(Encoding.PEM))
        (home / "consortium").mkdir()
        (home / "consortium/ca.crt").write_bytes(authority.certificate_pem())
        append(
            file,
            '[consortium]\nname = "Test"\ncoordinator = "127.0.0.1:1"\nexchange = "127.0.0.1:1"\n'
            f'registry_key = "{"0" * 64}"\n',
        )
        found = states(file)
        assert found["certificate"].state == state, found["certificate"]
        # Nobody listens at these addresses, and nothing is in the directory.
        failed = {
            n
            for n in ("coordinator", "exchange", "processes", "directory and pins")
            if found[n].state == "FAIL"
        }
        assert failed == {"coordinator", "exchange", "processes", "directory and pins"}
        assert found["clock"].state == "SKIP"


def test_the_contract_of_these_tests_is_one() -> None:
    assert contracts.parse(json.dumps(CONTRACT.document())).digest == CONTRACT.digest
