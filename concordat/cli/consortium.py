"""``concordat up | status | down``: a whole consortium on this machine, each party in processes of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concordat.cli.output import Format, FormatOption, say, show, table
from protocol.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from concordat.lab import Lab

DirectoryOption = Annotated[Path, typer.Option("--dir", help="Where the consortium lives.")]
HOME = Path("var/lab")
COORDINATOR_FILE = "coordinator/coordinator.toml"


def up(
    directory: DirectoryOption = HOME,
    data: Annotated[
        Path | None, typer.Option(help="A data directory (docs/demo-data.md); a made-up economy by default.")
    ] = None,
    enterprises: Annotated[int, typer.Option(min=1000, help="Size of the made-up economy.")] = 24_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the made-up economy.")] = 7,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Bring up a consortium and leave it running; one that is there already is started again.

    Its nodes approve training jobs up to epsilon 8 without asking, and take the registry's word for the keys.

    \b
    Examples:
      concordat up --dir var/lab
      concordat job submit score.toml --coordinator var/lab/coordinator/coordinator.toml
    """
    from concordat.lab import Lab

    lab = Lab(directory)
    if lab.supervisor.alive():
        raise ConfigurationError(
            "ALREADY_UP", f"a consortium runs in {directory} already", "`concordat status`, `concordat down`."
        )
    if (lab.directory / COORDINATOR_FILE).exists():
        if data is not None:
            raise ConfigurationError(
                "LAB_EXISTS", f"{directory} holds a consortium with its tables already", "Leave --data out."
            )
    else:
        create(lab, data, enterprises, seed)
    took = lab.up(tell=say)
    answer = {"directory": str(lab.directory), "seconds": round(took, 2), **state_of(lab)}
    show(format, answer, lambda: describe(answer))
    say(f"Up in {took:.1f} s. Commands of the coordinator: --coordinator {directory / COORDINATOR_FILE}")


def create(lab: Lab, folder: Path | None, enterprises: int, seed: int) -> None:
    """Found the consortium of a data directory, each party with its own table."""
    from concordat import dataset
    from concordat.economy import write_economy
    from concordat.lab import Member

    if folder is None:
        folder = lab.directory / "economy"
        say(f"Making up {enterprises:,} enterprises.")
        write_economy(folder, count=enterprises, banks=3, seed=seed, kind="csv", replace=True)
    tables = dataset.load(folder)
    contract = json.dumps(tables.contract().document()).encode()
    members = [
        Member(
            party.name, party.role, contract, tables.materialise(party, lab.directory / party.name / "data")
        )
        for party in tables.parties
    ]
    lab.create(tables.manifest.consortium, [*members, Member("compute", "compute")])


def lab_at(directory: Path) -> Lab:
    """Return the consortium in a directory.

    Raises:
        ConfigurationError: there is none.
    """
    from concordat.lab import Lab

    lab = Lab(directory)
    if not (lab.directory / COORDINATOR_FILE).exists():
        raise ConfigurationError(
            "LAB_UNKNOWN",
            f"there is no consortium in {directory}",
            "`concordat up` makes one; --dir names it.",
        )
    return lab


def state_of(lab: Lab) -> dict[str, Any]:
    """Return the states of all parties and processes."""
    nodes: dict[str, Any] = {}
    for name in lab.nodes():
        try:
            status_ = lab.status(name)
            nodes[name] = {key: status_[key] for key in ("role", "state", "exchange", "pending")}
        except Unavailable as error:
            nodes[name] = {"role": lab.node(name).node.role, "state": "down", "why": error.message}
    return {
        "nodes": nodes,
        "processes": {str(p["name"]): str(p["statename"]).lower() for p in lab.supervisor.processes()},
    }


def describe(answer: dict[str, Any]) -> str:
    """Return a consortium's state for people."""
    parties: dict[str, list[str]] = {}
    for name, state in answer["processes"].items():
        party, _, process = name.partition(".")
        parties.setdefault(party, []).append(process if state == "running" else f"{process} ({state})")
    rows = [
        (
            party,
            answer["nodes"].get(party, {}).get("role", "coordinator"),
            answer["nodes"].get(party, {}).get("state", "up"),
            ", ".join(sorted(processes)),
        )
        for party, processes in sorted(parties.items())
    ]
    return table(("party", "role", "state", "processes"), rows)


def status(directory: DirectoryOption = HOME, format: FormatOption = Format.text) -> None:  # noqa: A002
    """Show the consortium's parties and processes. Exit code 7 if it isn't running, 1 if a part of it is ill.

    \b
    Examples:
      concordat status --dir var/lab
    """
    lab = lab_at(directory)
    if not lab.supervisor.alive():
        raise Unavailable(
            "LAB_DOWN", f"the consortium in {directory} isn't running", "`concordat up` starts it."
        )
    answer = {"directory": str(lab.directory), **state_of(lab)}
    show(format, answer, lambda: describe(answer))
    ill = [name for name, state in answer["processes"].items() if state != "running"]
    ill += [name for name, node in answer["nodes"].items() if node["state"] == "down"]
    if ill:
        say(f"Ill: {', '.join(sorted(ill))}. Logs lie in {lab.directory / 'logs'}.")
        raise typer.Exit(1)


def down(directory: DirectoryOption = HOME, format: FormatOption = Format.text) -> None:  # noqa: A002
    """Stop the consortium; its keys, tables, models and logs stay.

    \b
    Examples:
      concordat down --dir var/lab
    """
    lab = lab_at(directory)
    ran = lab.supervisor.alive()
    lab.down()
    show(
        format,
        {"directory": str(lab.directory), "stopped": ran},
        lambda: f"Stopped; what it has stays in {directory}." if ran else "It wasn't running.",
    )
