"""The command line's outermost edge: start-up, errors as one screen or one object, exit codes, tables."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
import sqlalchemy.exc
from typer.testing import CliRunner

from concordat.cli import output, place
from concordat.cli.app import app
from protocol import errors

HEAVY = (
    "torch",
    "flwr",
    "pandas",
    "numpy",
    "pyarrow",
    "sqlalchemy",
    "fastapi",
    "nats",
    "httpx",
    "rich",
    "pydantic",
)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom concordat.cli.app import app\n"
        "try:\n    app(['node', 'job', '--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError, 2),
        (errors.DataError, 3),
        (errors.ProtocolError, 4),
        (errors.SignatureInvalid, 4),
        (errors.NotApproved, 5),
        (errors.JobVoid, 6),
        (errors.Unavailable, 7),
        (errors.LedgerError, 8),
        (errors.ConcordatError, 1),
    ],
)
class TestAnError:
    @pytest.fixture(autouse=True)
    def _raised(self, monkeypatch: pytest.MonkeyPatch, error: type[errors.ConcordatError]) -> None:
        def refuse(_: Path) -> None:
            raise error("SOME_CODE", "what happened", "what to do")

        monkeypatch.setattr(place, "load_node", refuse)

    def test_is_one_screen_for_people(self, code: int) -> None:
        result = CliRunner().invoke(app, ["node", "status"])
        assert (result.exit_code, result.stdout) == (code, "")
        assert result.stderr == "Error: what happened [SOME_CODE]\n  what to do\n"

    @pytest.mark.parametrize("asked", [["--format", "json"], ["--format=json"]])
    def test_is_one_object_for_programs(self, code: int, asked: list[str]) -> None:
        result = CliRunner().invoke(app, ["node", "status", *asked])
        assert (result.exit_code, result.stderr) == (code, "")
        problem = json.loads(result.stdout)
        assert problem["title"] == "SOME_CODE"
        assert (problem["detail"], problem["hint"]) == ("what happened", "what to do")
        assert problem["type"] == "urn:concordat:problem:some-code"


@pytest.mark.parametrize(
    "words", [["fly"], ["node", "fly"], ["node", "status", "--fly"], ["job", "show"], ["node", "status", "x"]]
)
def test_a_slip_of_usage_says_where_help_is(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "[USAGE]" in result.stderr
    assert "--help`" in result.stderr
    as_json = CliRunner().invoke(app, [*words, "--format", "json"])
    assert as_json.exit_code == 2
    assert json.loads(as_json.stdout)["title"] == "USAGE"


class TestAnUnforeseenError:
    @pytest.mark.parametrize("error", [ValueError("91310000MA1K35X60P"), KeyError("91310000MA1K35X60P")])
    def test_is_told_without_its_text(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def fail(_: Path) -> None:
            raise error

        monkeypatch.delenv("CONCORDAT_DEBUG", raising=False)
        monkeypatch.setattr(place, "load_node", fail)
        result = CliRunner().invoke(app, ["node", "status"])
        assert result.exit_code == 1
        assert "INTERNAL" in result.stderr
        assert "91310000" not in result.output
        assert "Traceback" not in result.output

    def test_shows_its_place_to_developers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(_: Path) -> None:
            raise ValueError

        monkeypatch.setattr(place, "load_node", fail)
        result = CliRunner().invoke(app, ["node", "status"], env={"CONCORDAT_DEBUG": "1"})
        assert "Traceback" in result.stderr

    def test_of_the_database_hides_its_address(self) -> None:
        told = output.explained(
            sqlalchemy.exc.OperationalError("postgresql://u:secret@h/d", None, Exception("x"))
        )
        assert (told.code, told.exit_code) == ("DATABASE_UNAVAILABLE", 7)
        assert "secret" not in str(told)

    def test_of_a_file_names_it(self) -> None:
        told = output.explained(PermissionError(13, "Permission denied", "some/file"))
        assert (told.code, told.exit_code) == ("FILE_ERROR", 2)
        assert "some/file: Permission denied" in told.message

    def test_of_a_question_that_was_declined(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def decline(_: Path) -> None:
            raise click.Abort

        monkeypatch.setattr(place, "load_node", decline)
        result = CliRunner().invoke(app, ["node", "status"])
        assert result.exit_code == output.INTERRUPTED
        assert "nothing was changed" in result.stderr


def test_a_group_without_a_command_shows_its_help() -> None:
    result = CliRunner().invoke(app, ["node", "job"])
    assert "approve" in result.output
    assert "Error" not in result.output


class TestText:
    def test_a_table_is_aligned_by_its_widest_cell(self) -> None:
        assert output.table(("a", "long head"), [("wide cell", 1), ("x", 22)]) == (
            "a          long head\nwide cell  1\nx          22"
        )
        assert output.table(("a",), [], "nothing yet") == "nothing yet"

    def test_facts_are_aligned(self) -> None:
        assert output.facts([("a", 1), ("name", "x")]) == "a     1\nname  x"

    @pytest.mark.parametrize(
        ("count", "text"),
        [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_234_567, "1.2 MB"), (5e12, "5000.0 GB")],
    )
    def test_a_size_is_read_by_people(self, count: int, text: str) -> None:
        assert output.size(count) == text

    def test_a_moment_is_told_in_utc(self) -> None:
        assert output.moment(1_700_000_000) == "2023-11-14 22:13:20Z"
        assert output.moment(0) == "-"
