"""The handbook and the README against the command line: every command exists, every key is described."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from typer.main import get_command
from typer.testing import CliRunner

from concordat.cli.app import app
from concordat.cli.job_file import JobFile, read_job_file
from concordat.cli.schema import rendered, schemas
from coordinator.config import CoordinatorConfig
from node.config import NodeConfig

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "docs/demo-data.md",
    ROOT / "deploy/README.md",
    ROOT / "docs/architecture.md",
]
PAGES += sorted((ROOT / "docs/handbook").glob("*.md"))
BLOCK = re.compile(r"```(?:bash|sh)?\n(.*?)```", re.S)
SPAN = re.compile(r"`(concordat [^`]+)`")


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group of the command line, with its words."""
    group = get_command(app) if group is None else group
    for name, command in getattr(group, "commands", {}).items():
        yield (*path, name), command
        yield from commands(command, (*path, name))


KNOWN = dict(commands())
LEAVES = {path: command for path, command in KNOWN.items() if not hasattr(command, "commands")}


def told(text: str) -> list[str]:
    """The command lines that a page tells."""
    blocks = "\n".join(BLOCK.findall(text)).replace("\\\n", " ").splitlines()
    lines = [line.split("#")[0].strip() for line in blocks]
    said = [
        f"concordat {line.split('concordat ', 1)[1]}" for line in lines if "concordat " in f"{line} "[:200]
    ]
    return [line for line in said if line] + SPAN.findall(BLOCK.sub("", text))


def unknown(line: str) -> str:
    """What of a command line doesn't exist, or an empty string."""
    words = line.split()[1:]
    path: tuple[str, ...] = ()
    while words and (*path, words[0]) in KNOWN:
        path = (*path, words.pop(0))
    if not path and words and not words[0].startswith(("-", "…")):
        return f"no command {words[0]}"
    command = KNOWN.get(path)
    if command is None:
        return ""
    if hasattr(command, "commands") and words and re.fullmatch(r"[a-z-]+", words[0]) and words[0] != "-":
        if path == ("status",) or words[0].startswith("-"):
            return ""
        return f"no command {' '.join((*path, words[0]))}"
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    asked = {word.strip("[],.").split("=")[0] for word in words if word.strip("[").startswith("--")}
    strange = sorted(asked - options - {"--help"})
    return f"{' '.join(path)} has no {', '.join(strange)}" if strange else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_of_a_page_exists(page: Path) -> None:
    lines = told(page.read_text())
    assert lines
    assert [f"{line}: {fault}" for line in lines if (fault := unknown(line))] == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("concordat fly", "no command fly"),
        ("concordat node fly", "no command node fly"),
        ("concordat node job shows 3f", "no command node job shows"),
        ("concordat job list --jsn", "job list has no --jsn"),
        ("concordat job list --format json", ""),
    ],
)
def test_a_command_that_is_not_there_is_found(line: str, fault: str) -> None:
    assert unknown(line) == fault


@pytest.mark.parametrize("path", [(), *KNOWN], ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage: " in result.stdout
    if path in LEAVES:
        assert "Examples:" in result.stdout or "Example:" in result.stdout
        assert f"concordat {' '.join(path)}" in result.stdout.split("Example", 1)[1]


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_example_of_a_help_text_exists(path: tuple[str, ...]) -> None:
    examples = (LEAVES[path].help or "").split("Examples:", 1)[1].replace("\\\n", " ").splitlines()
    lines = [line.strip() for line in examples if line.strip().startswith("concordat ")]
    assert lines
    assert [f"{line}: {fault}" for line in lines if (fault := unknown(line))] == []


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a configuration, with its sections."""
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        inner = [kind for kind in kinds if issubclass(kind, BaseModel)]
        if not inner:
            yield f"{prefix}{name}"
        for kind in inner:
            yield from keys(kind, f"{prefix}{name}.")


@pytest.mark.parametrize(
    ("model", "page"), [(NodeConfig, "node.md"), (CoordinatorConfig, "coordinator.md"), (JobFile, "jobs.md")]
)
def test_every_key_is_described_and_no_other(model: type[BaseModel], page: str) -> None:
    text = (ROOT / "docs/handbook" / page).read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    described = {key for row in rows for key in re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)`", row)}
    wanted = set(keys(model))
    assert len(wanted) > 10
    assert wanted - described == set()
    sections = {name for name, field in model.model_fields.items() if not field.exclude}
    dotted = {key for key in described if key.split(".")[0] in sections and "." in key}
    assert dotted - wanted <= {"approval.auto_approve"}


def test_the_job_file_of_the_handbook_is_valid(tmp_path: Path) -> None:
    from concordat.cli.job_file import proposal_body

    text = (ROOT / "docs/handbook/jobs.md").read_text()
    file = tmp_path / "job.toml"
    file.write_text(re.findall(r"```toml\n(.*?)```", text, re.S)[0].replace("contract.json", "0" * 64))
    body = proposal_body(read_job_file(file), file, "Example", [])
    assert body["release"]["epsilon"] == 4


def test_the_published_schemas_are_this_release() -> None:
    folder = ROOT / "docs/schemas"
    published = {path.name.removesuffix(".schema.json"): path.read_text() for path in folder.glob("*.json")}
    assert published == {name: rendered(body) for name, body in schemas().items()}, (
        "concordat schema --out docs/schemas"
    )


def test_a_schema_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["schema", "--out", str(tmp_path / "s")])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "s/proposal.schema.json").read_text())["title"] == "Proposal"
    assert sorted(json.loads(CliRunner().invoke(app, ["schema"]).stdout)) == sorted(schemas())
