"""What ``concordat ledger`` shows people of a service's answers."""

from __future__ import annotations

from typing import Any

from concordat.cli.output import facts, moment, table


def desks(found: list[dict[str, Any]]) -> str:
    """Return the services of a stand as a table."""
    rows = [
        (each["name"], each["state"], ", ".join(each["roles"]), each["url"], each["token_file"])
        for each in found
    ]
    return table(("institution", "state", "signs as", "page", "token"), rows)


def _percent(ppm: int) -> str:
    from ledger.service.words import percent

    return str(percent(ppm))


def registered(answer: dict[str, Any]) -> str:
    """Return what became of a document that was registered."""
    return facts([("claim", answer["claim"]), ("state", answer["state"])])


def lists(found: dict[str, Any]) -> str:
    """Return an institution's receivables and requests as tables."""
    receivables = [
        (
            each["claim"][:12],
            each["part"],
            each["state"],
            ",".join(each["flags"]) or "-",
            _percent(each["shares"]["pledged"]),
            _percent(each["shares"]["free"]),
        )
        for each in found["receivables"]
    ]
    requests = [
        (each["claim"][:12], each["kind"], each["direction"], each["peer"], each["state"])
        for each in found["requests"]
    ]
    return "\n\n".join(
        [
            table(("claim", "part", "state", "flags", "pledged", "free"), receivables),
            table(("claim", "request", "way", "peer", "state"), requests),
        ]
    )


def described(one: dict[str, Any]) -> str:
    """Return one claim with its time line."""
    shares = one["shares"]
    head = [
        ("claim", one["claim"]),
        ("state", one.get("state", one.get("end", ""))),
        ("grade", one["grade"]),
        ("flags", ", ".join(one["flags"]) or "none"),
        ("capacity", _percent(shares["cap"])),
        ("pledged", _percent(shares["pledged"])),
        ("free", _percent(shares["free"])),
    ]
    lines = [(moment(each["time"]), each["block"], each["event"]) for each in one["timeline"]]
    return facts(head) + "\n\n" + table(("time", "block", "event"), lines)


def audited(report: dict[str, Any]) -> str:
    """Return what an audit has found."""
    compared = ", ".join(f"{count} {name}s" for name, count in report["compared"].items())
    head = f"Compared at block {report['height']}: {compared}."
    if not report["differences"]:
        return head + "\nIndex and chain agree."
    rows = [
        (
            each["what"],
            each["which"][:40],
            each["field"] or "(whole)",
            str(each["index"])[:24],
            str(each["chain"])[:24],
        )
        for each in report["differences"]
    ]
    return head + "\n" + table(("what", "which", "field", "index", "chain"), rows)
