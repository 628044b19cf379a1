"""``concordat node init | enroll | run | status``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concordat.cli import place
from concordat.cli.output import Format, FormatOption, facts, moment, say, show
from protocol.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from node.config import NodeConfig

SOCKET_LIMIT = 100


def init(
    name: Annotated[str, typer.Option(help="Name in the consortium: a-z, 0-9, hyphens.")] = "",
    role: Annotated[str, typer.Option(help="bank, e-commerce, government or compute.")] = "",
    directory: Annotated[Path, typer.Option("--dir", help="Directory of the new node.")] = Path(),
    runtime: Annotated[
        str, typer.Option(help="Address on loopback for the node's Flower runtime.")
    ] = "127.0.0.1:7501",
    config: place.NodeFile = place.NODE,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Make a node's directory: configuration, passphrase and keys. Nothing leaves this machine.

    With a configuration that exists already (--config, without --name) only the keys are made.

    \b
    Examples:
      concordat node init --name north-bank --role bank --dir /srv/north-bank
      concordat node init --config /etc/concordat/node.toml
    """
    from node import enrolment

    if name or role:
        from node.config import NodeSection
        from protocol.settings import parse

        parse(f"name = {_quoted(name)}\nrole = {_quoted(role)}\n", NodeSection, "--name, --role")
        file = enrolment.initialise(directory, name, role, runtime)
    else:
        file = config
        if not file.exists():
            raise ConfigurationError(
                "NODE_UNNAMED",
                f"there is no {file}, and no --name and --role for a new node",
                "concordat node init --name north-bank --role bank --dir DIR",
            )
        enrolment.equip(file)
    made = place.load_node(file)
    fingerprint = place.keys_of(made).identity().public.fingerprint
    answer = {"name": made.node.name, "role": made.node.role, "config": str(file), "fingerprint": fingerprint}
    show(format, answer, lambda: facts(answer.items()))
    say(
        "Next: ask the coordinator's operator for an invitation, then "
        f"`concordat node enroll INVITATION.json --config {file}`."
    )


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)


def enroll(
    invitation: Annotated[str, typer.Argument(help="The invitation's file, or - for standard input.")],
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the operator's admission.")] = 30.0,
    config: place.NodeFile = place.NODE,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Join the consortium that the invitation is for. Only public keys leave this machine.

    The coordinator's operator compares this node's fingerprint with you by another channel, such as the telephone,
    and admits it. Run the command again if nobody has done so in time.

    \b
    Examples:
      concordat node enroll invitation.json
      concordat node enroll - --wait 600 < invitation.json
    """
    from node import enrolment

    made = place.load_node(config)
    own = place.keys_of(made).identity().public.fingerprint
    said = read_invitation(invitation)
    say(f"Fingerprint of {made.node.name}, to read to the coordinator's operator:\n  {own}")
    joined = enrolment.enroll(config, said, wait)
    others = members_of(joined)
    answer = {
        "name": made.node.name,
        "consortium": joined.joined().name,
        "fingerprint": own,
        "members": others,
    }

    def text() -> str:
        lines = [f"{made.node.name} is a member of {joined.joined().name}."]
        if others and not joined.trust.accept_registry:
            lines += [
                "Before the node runs, compare each fingerprint with its owner by another channel, and add to "
                f"{config}:",
                "",
                "[trust.pins]",
                *(f'{name} = "{party["fingerprint"]}"' for name, party in others.items()),
            ]
        return "\n".join(lines)

    show(format, answer, text)
    say("Next: `concordat node data check`, `concordat node doctor`, `concordat node run`.")


def read_invitation(source: str) -> dict[str, Any]:
    """Read an invitation from a file or from standard input.

    Raises:
        ConfigurationError: it can't be read.
    """
    import json

    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        content = json.loads(data)
    except OSError as error:
        raise ConfigurationError(
            "INVITATION_UNREADABLE", f"{source}: {error.strerror}", "Give the file that the operator sent."
        ) from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ConfigurationError(
            "INVITATION_MALFORMED", f"{source} is not an invitation", "It is one JSON object; copy it whole."
        )
    return content


def members_of(config: NodeConfig) -> dict[str, dict[str, Any]]:
    """Return the other members as the registry states them, by name."""
    import json
    import time

    from node.members import FILE
    from protocol.identity import Directory
    from protocol.keys import PublicKey

    joined = config.joined()
    directory = Directory.from_statements(
        json.loads(config.path(FILE).read_bytes()),
        joined.name,
        PublicKey.from_hex(joined.registry_key),
        int(time.time()),
        config.trust.pins or None,
    )
    return {
        party.name: {"role": party.role.value, "fingerprint": party.identity.fingerprint}
        for party in directory.values()
        if party.name != config.node.name
    }


def run(config: place.NodeFile = place.NODE) -> None:
    """Run the node's processes in the foreground until stopped; what dies is started again.

    \b
    Examples:
      concordat node run
      concordat node run --config /etc/concordat/node.toml
    """
    from concordat.supervision import Supervisor
    from node.members import Members
    from node.processes import processes

    made = place.load_node(config)
    made.passphrase()
    made.joined()
    # A missing pin or a swapped key is told here, not in a log.
    Members(made)
    try:
        place.ask_node(made)
    except Unavailable:
        pass
    else:
        raise ConfigurationError(
            "ALREADY_UP", f"{made.node.name} runs already", "`concordat node status` shows it."
        )
    home = supervisor_home(made.path())
    say(f"{made.node.name} runs in the foreground; logs lie in {home / 'logs'}. Ctrl-C stops it.")
    Supervisor(home).run({made.node.name: processes(made, config)})


def supervisor_home(directory: Path) -> Path:
    """Return the directory for supervisord's files, if its socket's path can be that long.

    Raises:
        ConfigurationError: the kernel would not take the path.
    """
    home = directory.resolve()
    if len(str(home / "supervisor.sock")) > SOCKET_LIMIT:
        raise ConfigurationError(
            "SOCKET_PATH_LONG",
            f"{home / 'supervisor.sock'} is too long for a Unix socket",
            "Use a data directory with a shorter path.",
        )
    return home


def status(config: place.NodeFile = place.NODE, format: FormatOption = Format.text) -> None:  # noqa: A002
    """Say whether the node runs, and what it does. Exit code 7 if it doesn't answer or is still starting.

    \b
    Examples:
      concordat node status
      concordat node status --format json
    """
    made = place.load_node(config)
    answer = place.ask_node(made)
    answer["processes"] = processes_of(made)
    show(format, answer, lambda: describe(answer))
    if answer["state"] == "starting":
        raise typer.Exit(Unavailable.exit_code)


def processes_of(config: NodeConfig) -> dict[str, str]:
    """Return the states of the node's processes, by name, whether it runs by itself or within a lab."""
    home = config.path().resolve()
    prefix = config.node.name + "."
    return {
        str(process["name"]).removeprefix(prefix): str(process["statename"]).lower()
        for process in place.supervised(home, home.parent)
        if str(process["name"]).startswith(prefix)
    }


def describe(answer: dict[str, Any]) -> str:
    """Return a node's status for people."""
    table = answer.get("table") or {}
    lines: list[tuple[str, object]] = [
        ("node", f"{answer['name']} ({answer['role']})"),
        ("state", answer["state"]),
        ("exchange", "connected" if answer["exchange"] else "not connected"),
        ("jobs to decide", answer["pending"]),
        ("egress records", answer["egress"]["records"]),
        ("fingerprint", answer["fingerprint"]),
    ]
    if "job" in answer:
        lines.insert(2, ("job", f"{answer['job'][:12]}, {answer['step']}, since {moment(answer['at'])}"))
    if table:
        lines.append(("table", f"{table['file']}: {table['rows']:,} rows, {table['fields']} fields"))
    lines += [(f"process {name}", state) for name, state in sorted(answer["processes"].items())]
    return facts(lines)
