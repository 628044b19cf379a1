"""``concordat node egress list | verify``: what left the building, and whether the log still tells all of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from concordat.cli import place
from concordat.cli.output import Format, FormatOption, moment, say, show, size, table
from protocol.errors import ConfigurationError

if TYPE_CHECKING:
    from node.egress import Head

HEAD_FILE = "egress.head"


def list_records(
    job: Annotated[str, typer.Option(help="Only this job: the beginning of its id.")] = "",
    peer: Annotated[str, typer.Option(help="Only what went to this party.")] = "",
    last: Annotated[int, typer.Option(min=0, help="Only the last so many; 0 for all.")] = 50,
    config: place.NodeFile = place.NODE,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Show what left this node: time, peer, purpose, class of data, bytes, digest.

    A job is named by its manifest here (J); `concordat node job show` tells which belongs to a proposal.

    \b
    Examples:
      concordat node egress list
      concordat node egress list --peer coordinator --last 0 --format json
    """
    from dataclasses import asdict

    from node.egress import EgressLog

    made = place.load_node(config)
    log = EgressLog(place.store_of(made), place.keys_of(made).identity(), made.path(HEAD_FILE))
    found = [
        record for record in log.records() if record.job.startswith(job) and (not peer or record.peer == peer)
    ]
    shown = found[-last:] if last else found
    answer = {
        "node": made.node.name,
        "head": {"seq": log.head().seq, "digest": log.head().digest},
        "matching": len(found),
        "bytes": sum(record.bytes for record in found),
        "records": [asdict(record) for record in shown],
    }
    show(
        format,
        answer,
        lambda: table(
            ("no.", "time", "to", "purpose", "job", "class", "bytes", "SHA-256"),
            [
                (
                    record.seq,
                    moment(record.at / 1000),
                    record.peer,
                    record.purpose,
                    record.job[:12] or "-",
                    record.field_class,
                    record.bytes,
                    record.payload[:12],
                )
                for record in shown
            ],
            "Nothing has left this node.",
        ),
    )
    say(f"{len(shown):,} of {len(found):,} records, {size(sum(record.bytes for record in found))} in all.")


def verify_log(
    against: Annotated[
        list[Path] | None,
        typer.Option(help="A head file kept elsewhere (seq and digest as JSON); may be repeated."),
    ] = None,
    config: place.NodeFile = place.NODE,
    format: FormatOption = Format.text,  # noqa: A002
) -> None:
    """Check the whole log: every digest, signature and link, and that no end was cut off. Exit code 4 if it fails.

    The log must pass through the node's own head file and every head given by --against.

    \b
    Examples:
      concordat node egress verify
      concordat node egress verify --against last-month.head
    """
    from node.egress import verify

    made = place.load_node(config)
    own = made.path(HEAD_FILE)
    heads = {str(path): head_of(path) for path in against or []}
    if own.exists():
        heads["the node's head file"] = head_of(own)
    head = verify(place.store_of(made), place.keys_of(made).identity().public, heads)
    if head.seq and not own.exists():
        raise ConfigurationError(
            "EGRESS_HEAD_MISSING",
            f"the log has {head.seq} records, and there is no {own}",
            "Somebody removed the head file. Compare the log with a head that was kept elsewhere (--against).",
        )
    answer = {
        "node": made.node.name,
        "verified": True,
        "records": head.seq,
        "head": head.digest,
        "heads": list(heads),
    }
    show(
        format,
        answer,
        lambda: (
            f"PASS  {head.seq:,} records, chain and signatures whole; head {head.digest}\n"
            f"      passes through: {', '.join(heads) or 'no head is known yet'}"
        ),
    )


def head_of(path: Path) -> Head:
    """Read a head file.

    Raises:
        ConfigurationError: it can't be read, or holds something else.
    """
    from node.egress import Head

    try:
        content = json.loads(path.read_bytes())
        seq, digest = content["seq"], content["digest"]
        if not isinstance(seq, int) or not isinstance(digest, str):
            raise TypeError
    except OSError as error:
        raise ConfigurationError(
            "HEAD_UNREADABLE", f"{path}: {error.strerror}", "Look at the path."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(
            "HEAD_MALFORMED", f"{path} holds no head of a log", 'It is {"digest": "…", "seq": N}.'
        ) from None
    return Head(seq, digest)
