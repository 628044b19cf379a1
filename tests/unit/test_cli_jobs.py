"""The job's file, the live display, the consortium's and the demo's options, refusals of the operators' interface."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from concordat import lab
from concordat.cli.app import app
from concordat.cli.job import OUTCOME
from concordat.cli.job_file import proposal_body, read_job_file
from concordat.cli.progress import DONE, STOPPED, WORKING, Progress, drawn, line
from coordinator.store import ENDED
from protocol import errors
from protocol.errors import ConfigurationError

HEAD = 'title = "Score"\nsubmitted_by = "office"\ncontract = "' + "ab" * 32 + '"\n'
BANKS = ["west", "east", "north"]


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def body_of(tmp_path: Path, text: str) -> dict[str, Any]:
    file = tmp_path / "job.toml"
    file.write_text(text)
    return proposal_body(read_job_file(file), file, "Test", BANKS)


class TestJobFile:
    def test_has_defaults_and_sorts_parties(self, tmp_path: Path) -> None:
        body = body_of(tmp_path, HEAD)
        assert body["banks"] == sorted(BANKS)
        assert body["recipe"]["rounds"] == 5
        assert not {"consortium", "code"} & set(body)

    @pytest.mark.parametrize(
        ("text", "code", "said"),
        [
            ("title =", "CONFIG_NOT_TOML", "job.toml"),
            ('title = "x"\n', "CONFIG_INVALID", "submitted_by"),
            (HEAD + "hold_out = 0.2\n", "CONFIG_INVALID", "did you mean holdout"),
            (HEAD + "[recipe]\nround = 3\n", "CONFIG_INVALID", "did you mean rounds"),
            (HEAD + "[recipe]\nrounds = 0\n", "CONFIG_INVALID", "recipe.rounds"),
            (HEAD + 'banks = ["a1", "b1"]\n', "JOB_INVALID", "banks"),
            (HEAD + "holdout = 1.5\n", "JOB_INVALID", "holdout"),
            (HEAD + '[release]\nkind = "dp"\n', "CONFIG_INVALID", "epsilon"),
            (HEAD + 'seed = 1\n[release]\nkind = "dp"\nepsilon = 1\ndelta = 1e-5\n', "JOB_INVALID", "seed"),
            (HEAD.replace("ab" * 32, "none.json"), "CONTRACT_UNREADABLE", "none.json"),
        ],
    )
    def test_is_refused_with_the_key_that_is_wrong(
        self, tmp_path: Path, text: str, code: str, said: str
    ) -> None:
        with pytest.raises(ConfigurationError) as refused:
            body_of(tmp_path, text)
        assert refused.value.code == code
        assert said in str(refused.value)

    def test_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        result = run("job", "submit", tmp_path / "none.toml")
        assert (result.exit_code, "JOB_FILE_UNREADABLE" in result.stderr) == (2, True)


def test_watching_has_an_exit_code_for_every_end() -> None:
    assert set(OUTCOME) == set(ENDED)
    assert [state for state, code in OUTCOME.items() if code == 0] == ["finished"]


def event(step: str, kind: str, party: str = "", at: float = 0.0, **detail: Any) -> dict[str, Any]:
    return {"step": step, "kind": kind, "party": party, "at": at, "detail": detail}


class TestProgress:
    def test_counts_rounds_bytes_parties_and_seconds(self) -> None:
        progress = Progress()
        for n, told in enumerate(
            [
                event("train", "asked", "a", bytes=10),
                event("train", "answered", "a", bytes=5),
                event("train", "answered", "b", bytes=5),
                event("round 1", "opened", bytes=99),
                event("train", "asked", "a", bytes=1),
            ]
        ):
            progress.take({**told, "at": float(n)})
        first, second = progress.steps["round 1"], progress.steps["round 2"]
        assert (first.state, first.bytes, first.parties, first.seconds) == (DONE, 20, {"a", "b"}, 3.0)
        assert (second.state, second.bytes) == (WORKING, 1)

    def test_shows_why_a_step_stopped(self) -> None:
        progress = Progress()
        progress.take(event("enlist", "refused", "a", code="CODE_DIFFERS"))
        progress.take(event("enlist", "asked", "b"))
        assert progress.steps["enlist"].state == STOPPED
        assert "CODE_DIFFERS" in progress.steps["enlist"].note

    def test_draws_text_of_others_as_text(self) -> None:
        from rich.console import Console

        progress = Progress()
        progress.take(event("job", "failed", detail="[red]x[/nonsense]"))
        console = Console(width=200, record=True, quiet=True)
        with console.capture():
            console.print(drawn("[bold]t[/bad]", progress))
        assert "[red]x[/nonsense]" in line(event("job", "failed", detail="[red]x[/nonsense]"))


@pytest.mark.parametrize("words", [["status"], ["down"]])
def test_a_consortium_that_is_not_there_is_told(tmp_path: Path, words: list[str]) -> None:
    result = run(*words, "--dir", tmp_path)
    assert (result.exit_code, "LAB_UNKNOWN" in result.stderr) == (2, True)


@pytest.mark.parametrize("words", [["--keep"], ["--keep", "--dir", "x", "--simulate"], ["--release", "some"]])
def test_the_demo_refuses_options_that_do_not_fit(words: list[str]) -> None:
    result = run("demo", *words)
    assert (result.exit_code, "[USAGE]" in result.stderr) == (2, True)


class TestCoordinator:
    def test_founds_a_consortium_once(self, tmp_path: Path) -> None:
        words = ("coordinator", "init", "--consortium", "Test", "--dir", tmp_path / "c", "--format", "json")
        result = run(*words, "--public", "0.0.0.0:7443", "--host", "credit.example.org")
        assert result.exit_code == 0, result.output
        assert len(json.loads(result.stdout)["registry_key"]) == 64
        text = (tmp_path / "c/coordinator.toml").read_text()
        assert 'public_address = "credit.example.org:7443"' in text
        again = run(*words)
        assert json.loads(again.stdout)["title"] == "CONSORTIUM_EXISTS"
        config = ("--config", tmp_path / "c/coordinator.toml")
        assert "CONSORTIUM_EXISTS" in run("coordinator", "init", *config).stderr
        down = run("coordinator", "status", *config)
        assert (down.exit_code, "COORDINATOR_DOWN" in down.stderr) == (7, True)
        unknown = run("coordinator", "run", "--without", "daemon", *config)
        assert (unknown.exit_code, "PROCESS_UNKNOWN" in unknown.stderr) == (2, True)

    def test_refuses_a_wrong_address_before_it_writes(self, tmp_path: Path) -> None:
        result = run(
            "coordinator", "init", "--consortium", "T", "--dir", tmp_path / "c", "--public", "nowhere"
        )
        assert (result.exit_code, "listen.public" in result.stderr) == (2, True)
        assert not (tmp_path / "c").exists()

    def test_asks_for_a_name(self, tmp_path: Path) -> None:
        result = run("coordinator", "init", "--config", tmp_path / "none.toml")
        assert (result.exit_code, "CONSORTIUM_UNNAMED" in result.stderr) == (2, True)

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, errors.ConfigurationError),
            (403, errors.NotApproved),
            (409, errors.JobVoid),
            (422, errors.DataError),
            (503, errors.Unavailable),
            (500, errors.ConcordatError),
        ],
    )
    def test_keeps_a_refusals_class(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, kind: type[errors.ConcordatError]
    ) -> None:
        run("coordinator", "init", "--consortium", "Test", "--dir", tmp_path / "c")
        monkeypatch.setattr(
            httpx,
            "HTTPTransport",
            lambda **_: httpx.MockTransport(lambda _: httpx.Response(status, text="no JSON")),
        )
        from coordinator.config import load

        (tmp_path / "c/run").mkdir(exist_ok=True)
        (tmp_path / "c/run/operator.sock").touch()
        with pytest.raises(kind) as refused:
            lab.call(load(tmp_path / "c/coordinator.toml"), "GET", "/jobs")
        assert type(refused.value) is kind
