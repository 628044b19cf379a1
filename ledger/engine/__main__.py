"""``python -m ledger.engine``: install the engine, begin a ledger, run a gateway."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ledger.engine import folder, packages, restoring
from ledger.engine import keys as ledger_keys
from ledger.engine.operating import Trust, check_ledger, run_gateway, run_member
from ledger.engine.serving import Listen, sole
from protocol.errors import ConcordatError, ConfigurationError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="The embedded ledger's engine and gateway."
)

Data = Annotated[Path, typer.Option("--data", help="Folder of this ledger: keys, genesis.json, log.")]

Bare = Annotated[bool, typer.Option("--bare", help="A new chain gets no contracts.")]


@app.command()
def install() -> None:
    """Install the engines' npm packages under the committed lock, without install scripts."""
    typer.echo(str(packages.install()))


@app.command()
def new(
    data: Data,
    engine: Annotated[str, typer.Option(help="edr, or anvil for comparison.")] = "edr",
    name: Annotated[str, typer.Option(help="The operator's name.")] = "operator",
    bare: Bare = False,
) -> None:
    """Begin a ledger of one member for trying things out: keys, contracts and a signed genesis document."""
    typer.echo(json.dumps({"genesis": str(folder.solo(data, engine, name, bare=bare))}))


@app.command()
def up(
    data: Data,
    host: Annotated[str, typer.Option(help="Address; beyond loopback only with mutual TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one, which the ready line names.")] = 0,
    certificate: Annotated[Path | None, typer.Option(help="PEM chain of this server.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM key of this server.")] = None,
    clients: Annotated[Path | None, typer.Option(help="PEM authorities of the clients.")] = None,
    server_name: Annotated[
        list[str] | None, typer.Option(help="Host name in requests; may be repeated.")
    ] = None,
    bare: Bare = False,
) -> None:
    """Run the gateway. Makes a ledger of one member, with its contracts, first if the folder is empty."""
    listen = Listen(host, port, certificate, key, clients, frozenset(server_name or ()))
    if not (data / "genesis.json").exists() and not (data / "keys").exists():
        folder.solo(data, "edr", "operator", bare=bare)
    with sole(data):
        keys = ledger_keys.load(data / "keys")
        asyncio.run(run_gateway(data, folder.read_genesis(data), keys, listen))


@app.command()
def keys(
    data: Data,
    name: Annotated[str, typer.Option(help="The party's name.")],
) -> None:
    """Draw a party's ledger keys and print their public half, for whoever drafts the genesis document."""
    typer.echo(json.dumps(ledger_keys.create(data / "keys").member(name).to_json()))


@app.command()
def sign(
    data: Data,
    name: Annotated[str, typer.Option(help="The party's name in the document.")],
    file: Annotated[
        Path, typer.Argument(help="Genesis document; it is replaced by one with this signature.")
    ],
) -> None:
    """Sign a genesis document. Compare its code hashes with your own build first."""
    folder.sign_genesis(file, name, ledger_keys.load(data / "keys"))
    typer.echo(f"signed by {name}")


@app.command()
def check(data: Data) -> None:
    """Verify a stopped ledger: every record's digest, and that replay gives the last head."""
    with sole(data):
        typer.echo(json.dumps(asyncio.run(check_ledger(data, folder.read_genesis(data)))))


@app.command()
def restore(
    data: Data,
    member: Annotated[str, typer.Option(help="URL of a member's replica.")],
    certificate: Annotated[Path | None, typer.Option(help="PEM chain of this client.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM key of this client.")] = None,
    authorities: Annotated[Path | None, typer.Option(help="PEM authorities of all parties.")] = None,
) -> None:
    """Fetch a lost log from a member, under a checkpoint that the operator signed."""
    with sole(data), Trust(authorities, certificate, key).blocking_client() as client:
        count = restoring.restore(data, folder.read_genesis(data), member, client)
    typer.echo(json.dumps({"records": count}))


@app.command()
def member(
    data: Data,
    name: Annotated[str, typer.Option(help="This member's name in the genesis document.")],
    operator: Annotated[str, typer.Option(help="URL of the operator's gateway.")],
    peer: Annotated[
        list[str] | None, typer.Option(help="NAME=URL of another member; at least two, if there are.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address; beyond loopback only with mutual TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one, which the ready line names.")] = 0,
    certificate: Annotated[
        Path | None, typer.Option(help="PEM chain of this member, as server and client.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="PEM key of this member.")] = None,
    authorities: Annotated[Path | None, typer.Option(help="PEM authorities of all parties.")] = None,
    server_name: Annotated[
        list[str] | None, typer.Option(help="Host name in requests; may be repeated.")
    ] = None,
) -> None:
    """Run a member's replica: follow the operator, replay, cosign, hear the peers, say what is final."""
    listen = Listen(host, port, certificate, key, authorities, frozenset(server_name or ()))
    named = peer or []
    if not all("=" in each for each in named):
        raise ConfigurationError("PEERS", "A peer must be given as NAME=URL.")
    peers = dict(each.split("=", 1) for each in named)
    with sole(data):
        keys = ledger_keys.load(data / "keys")
        trust = Trust(authorities, certificate, key)
        asyncio.run(run_member(data, folder.read_genesis(data), keys, name, listen, operator, peers, trust))


def main() -> None:
    """Run the command line; errors go to stderr as code, message and hint."""
    try:
        app()
    except ConcordatError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
