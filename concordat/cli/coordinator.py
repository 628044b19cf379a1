"""``concordat coordinator init | run | invite | admit | parties | status``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from concordat.cli import place
from concordat.cli.node import supervisor_home
from concordat.cli.output import Format, FormatOption, facts, moment, say, show, table
from protocol.errors import ConfigurationError


def init(
    consortium: Annotated[str, typer.Option(help="Name of a new consortium.")] = "",
    directory: Annotated[Path, typer.Option("--dir", help="Directory of the new coordinator.")] = Path(),
    public: Annotated[str, typer.Option(help="Where institutions enrol.")] = "127.0.0.1:7443",
    exchange: Annotated[str, typer.Option(help="Where the exchange listens.")] = "127.0.0.1:7422",
    superlink: Annotated[str, typer.Option(help="Flower's SuperLink; loopback only.")] = "127.0.0.1:7444",
    host: Annotated[
        list[str] | None,
        typer.Option(help="Name or address for the certificates, as institutions dial it; may be repeated."),
    ] = None,
    config: place.CoordinatorConfigFile = place.COORDINATOR,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Found a consortium: its authority, its registry key, the coordinator's own keys and certificates.

    With a configuration that exists already (--config, without --consortium) only the keys are made.

    \b
    Examples:
      concordat coordinator init --consortium "Pearl River SME" --dir /srv/coordinator \\
        --public 0.0.0.0:7443 --exchange 0.0.0.0:7422 --host credit.example.org
      concordat coordinator init --config /etc/concordat/coordinator.toml
    """
    from coordinator import founding
    from coordinator.relay import write_relay
    from coordinator.store import Store

    if consortium:
        config = _write(directory, consortium, public, exchange, superlink, host or [])
    elif not config.exists():
        raise ConfigurationError(
            "CONSORTIUM_UNNAMED",
            f"there is no {config}, and no --consortium for a new one",
            'concordat coordinator init --consortium "NAME" --dir DIR',
        )
    made = place.load_coordinator(config)
    founding.found(made)
    write_relay(made, Store.open(made.database_url(made.database.url)))
    registry = founding.load_registry_key(made).public
    answer = {
        "consortium": made.consortium,
        "config": str(config),
        "registry_key": registry.hex,
        "fingerprint": registry.fingerprint,
    }
    show(format, answer, lambda: facts(answer.items()))
    say("Next: `concordat coordinator run`, then `concordat coordinator invite NAME --role ROLE`.")


def _write(
    directory: Path, consortium: str, public: str, exchange: str, superlink: str, hosts: list[str]
) -> Path:
    import secrets

    from coordinator.config import CoordinatorConfig
    from node.keystore import write_private
    from protocol.settings import parse

    file = directory / "coordinator.toml"
    if file.exists():
        raise ConfigurationError("CONSORTIUM_EXISTS", f"{file} exists already", "Use another directory.")
    lines = [
        "# The coordinator of a consortium. Every key is described in docs/handbook/coordinator.md.",
        "[coordinator]",
        f"consortium = {json.dumps(consortium, ensure_ascii=False)}",
        "",
        "[listen]",
        f"public = {json.dumps(public)}",
        f"exchange = {json.dumps(exchange)}",
        f"superlink = {json.dumps(superlink)}",
        f"hosts = {json.dumps(sorted({*hosts, '127.0.0.1', 'localhost'}))}",
    ]
    for key, address in (("public", public), ("exchange", exchange)):
        if hosts and address.startswith("0.0.0.0:"):
            lines.append(f"{key}_address = {json.dumps(hosts[0] + address[7:])}")
    text = "\n".join([*lines, ""])
    parse(text, CoordinatorConfig, "the options")
    write_private(directory / "secret/passphrase", secrets.token_urlsafe(32).encode())
    write_private(file, text.encode())
    return file


def run(
    without: Annotated[
        list[str] | None,
        typer.Option(help="A process that runs elsewhere (exchange, superlink, superexec); may be repeated."),
    ] = None,
    config: place.CoordinatorConfigFile = place.COORDINATOR,
) -> None:
    """Run the coordinator's processes in the foreground until stopped; what dies is started again.

    \b
    Examples:
      concordat coordinator run
      concordat coordinator run --without exchange
    """
    from concordat.supervision import Supervisor
    from coordinator import founding
    from coordinator.processes import processes

    made = place.load_coordinator(config)
    founding.load_registry_key(made)
    made.operator_socket()
    known = [process.name for process in processes(made)]
    for name in without or []:
        if name not in known or name == "daemon":
            raise ConfigurationError(
                "PROCESS_UNKNOWN",
                f"there is no process {name} to leave out",
                f"There are {', '.join(known[:2])}",
            )
    home = supervisor_home(made.path())
    if Supervisor(home).alive():
        raise ConfigurationError("ALREADY_UP", f"a coordinator runs in {home} already", "Stop it first.")
    say(f"The coordinator runs in the foreground; logs lie in {home / 'logs'}. Ctrl-C stops it.")
    Supervisor(home).run({"coordinator": processes(made, without or ())})


def invite(
    name: Annotated[str, typer.Argument(help="The party's name: a-z, 0-9, hyphens.")],
    role: Annotated[str, typer.Option(help="bank, e-commerce, government, compute or auditor.")],
    admit: Annotated[
        bool,
        typer.Option(
            "--admit", help="Admit whoever shows the invitation, without comparing fingerprints. For trials."
        ),
    ] = False,
    config: place.CoordinatorConfigFile = place.COORDINATOR,
) -> None:
    """Invite a party: prints the invitation, one JSON object, to be handed over privately. It is worth one enrolment.

    \b
    Examples:
      concordat coordinator invite north-bank --role bank > north-bank.json
    """
    found = place.ask_coordinator(
        config, "POST", "/invitations", {"name": name, "role": role, "admit": admit}
    )
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    say(
        f"Valid until {moment(found['expires_at'])}. Whoever has it can ask to be {name}: hand it over privately."
    )


def admit(
    name: Annotated[str, typer.Argument(help="The party's name.")],
    fingerprint: Annotated[str, typer.Option(help="As the party read it to you by another channel.")],
    config: place.CoordinatorConfigFile = place.COORDINATOR,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Admit a party that has asked, if its key has the fingerprint that it read to you.

    \b
    Examples:
      concordat coordinator admit north-bank --fingerprint 5f1c…
    """
    from urllib.parse import quote

    found = place.ask_coordinator(
        config, "POST", f"/parties/{quote(name, safe='')}", {"fingerprint": fingerprint}
    )
    answer = {"name": name, **found}
    show(format, answer, lambda: f"{name} is admitted; its `concordat node enroll` now ends.")


def parties(
    config: place.CoordinatorConfigFile = place.COORDINATOR,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Show the members: name, role, fingerprint of the identity key.

    \b
    Examples:
      concordat coordinator parties --format json
    """
    found = place.ask_coordinator(config, "GET", "/parties")
    show(
        format,
        {"parties": found},
        lambda: table(
            ("name", "role", "valid until", "fingerprint"),
            [(p["name"], p["role"], moment(p["valid_until"]), p["fingerprint"]) for p in found],
        ),
    )


def status(
    config: place.CoordinatorConfigFile = place.COORDINATOR,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Say whether the coordinator runs, with its members and jobs. Exit code 7 if it doesn't answer.

    \b
    Examples:
      concordat coordinator status
    """
    answer = summary(config)
    show(format, answer, lambda: describe(answer))


def summary(config: Path) -> dict[str, Any]:
    """Return what a running coordinator says of itself."""
    made = place.load_coordinator(config)
    health = place.ask_coordinator(config, "GET", "/health")
    jobs = place.ask_coordinator(config, "GET", "/jobs")
    states: dict[str, int] = {}
    for job in jobs:
        states[job["state"]] = states.get(job["state"], 0) + 1
    home = made.path().resolve()
    return {
        "consortium": made.consortium,
        **health,
        "parties": len(place.ask_coordinator(config, "GET", "/parties")),
        "jobs": states,
        "models": len(place.ask_coordinator(config, "GET", "/models")),
        "processes": {
            str(process["name"]).removeprefix("coordinator."): str(process["statename"]).lower()
            for process in place.supervised(home, home.parent)
            if str(process["name"]).startswith("coordinator.")
        },
    }


def describe(answer: dict[str, Any]) -> str:
    """Return a coordinator's status for people."""
    jobs = ", ".join(f"{count} {state}" for state, count in sorted(answer["jobs"].items()))
    return facts(
        [
            ("consortium", answer["consortium"]),
            ("state", answer["status"]),
            ("parties", answer["parties"]),
            ("jobs", jobs or "none"),
            ("models", answer["models"]),
            ("registry", answer["fingerprint"]),
            *((f"process {name}", state) for name, state in sorted(answer["processes"].items())),
        ]
    )
