"""What a job took, and what went over its links: from its events and the nodes' own logs.

Free of input and output. Steps overlap where one holds another; bytes of a step are those that crossed the coordinator,
except for the stages with partners, whose messages pass between the parties and are counted by their logs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from node.egress import Record
from protocol.mailbox import COORDINATOR
from protocol.vertical import ASK
from protocol.voprf import MAXIMUM_BATCH

JOINT = "with partners"
BEFORE_JOINT, AFTER_JOINT = ("roster", "centring"), "published"
CARRIES = ("asked", "asked again", "answered", "sent", "gave")
POINT_BYTES = 32

Events = Sequence[Mapping[str, Any]]
Entries = Iterable[Mapping[str, Any]]
"""Of an egress log: ``peer``, ``purpose``, ``field_class``, ``records``, ``bytes``."""


def steps_of(events: Events, egress: Mapping[str, Entries] | None = None) -> list[dict[str, Any]]:
    """Return seconds, bytes and parties of each step of a job, from its events.

    A job with partners has a step for the stages that the coordinator can't look into: from the opening of the centring
    sums to that of the banks' statements on what was published. A partner's own parts stand ``within`` it.

    Args:
        events: of the job, in order.
        egress: what left each node for the job; without it the stages with partners count no bytes.
    """
    order: list[str] = []
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    size: dict[str, int] = defaultdict(int)
    parties: dict[str, set[str]] = defaultdict(set)
    round_ = 0
    for event in events:
        step = event["step"]
        if step == JOINT:
            continue
        if step.startswith("round "):
            round_ = int(step.split()[1])
            last[step] = event["at"]
            continue
        if step == "train":
            step = f"round {round_ + 1}"
        if not event["party"]:
            if step in last:
                last[step] = event["at"]
            continue
        if step not in first:
            order.append(step)
            first[step] = event["at"]
        last[step] = event["at"]
        parties[step].add(event["party"])
        if event["kind"] in CARRIES:
            size[step] += event["detail"].get("bytes", 0)
    steps = [_step(step, last[step] - first[step], size[step], len(parties[step])) for step in order]
    joint = _joint(events, egress or {})
    at = order.index(AFTER_JOINT) if AFTER_JOINT in order else len(order)
    return [*steps[:at], *joint, *steps[at:]]


def _step(name: str, seconds: float, size: int, parties: int) -> dict[str, Any]:
    return {"step": name, "seconds": round(seconds, 2), "bytes": size, "parties": parties}


def _joint(events: Events, egress: Mapping[str, Entries]) -> list[dict[str, Any]]:
    """Return the step with partners, over all attempts, and the parts that partners told of."""
    seconds, began, found = 0.0, None, False
    for event in events:
        if event["kind"] != "opened":
            continue
        if event["step"] in BEFORE_JOINT:
            began = event["at"]
        elif event["step"] == AFTER_JOINT and began is not None:
            seconds, began, found = seconds + event["at"] - began, None, True
    if not found:
        return []
    between = [
        (name, entry)
        for name, entries in egress.items()
        for entry in entries
        if entry["peer"] != COORDINATOR and entry["purpose"] != "group"
    ]
    took_part = {name for name, _ in between} | {entry["peer"] for _, entry in between}
    if not took_part:
        took_part = {event["party"] for event in events if event["step"] in (JOINT, AFTER_JOINT)} - {""}
    size = sum(int(entry["bytes"]) for _, entry in between)
    parts = [
        {**_step(f"{party}: {part}", taken, 0, 1), "within": JOINT}
        for party, told in told_of(events).items()
        for part, taken in sorted(told.get("seconds", {}).items(), key=lambda pair: -pair[1])
    ]
    return [_step(JOINT, seconds, size, len(took_part)), *parts]


def told_of(events: Events) -> dict[str, dict[str, Any]]:
    """Return what each party without rounds told of its stages, the last word of each."""
    return {
        event["party"]: dict(event["detail"].get("told") or {})
        for event in sorted(
            (e for e in events if e["step"] == JOINT and e["party"]), key=lambda e: e["party"]
        )
    }


def summed(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return records of an egress log, those of the same peer, purpose and class added up."""
    sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    for record in records:
        entry = sums[(record.peer, record.purpose, record.field_class)]
        entry[0] += 1
        entry[1] += record.bytes
    return [
        {"peer": peer, "purpose": purpose, "field_class": kind, "records": count, "bytes": size}
        for (peer, purpose, kind), (count, size) in sums.items()
    ]


def links_of(egress: Mapping[str, Entries], events: Events) -> list[dict[str, Any]]:
    """Return messages and bytes of each link: from nodes by their own logs, from the coordinator by the job's.

    ``classes`` says how many bytes of which kind of data, as the sender's log names it.
    """
    sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0])
    classes: dict[tuple[str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for name, records in egress.items():
        for record in records:
            link = (name, record["peer"], "Flower" if record["purpose"].endswith("(Flower)") else "exchange")
            sums[link][0] += record["records"]
            sums[link][1] += record["bytes"]
            classes[link][record["field_class"]] += record["bytes"]
    for event in events:
        if event["kind"] in ("asked", "asked again", "gave"):
            link = (COORDINATOR, event["party"], "exchange" if event["kind"] == "gave" else "Flower")
            sums[link][0] += 1
            sums[link][1] += event["detail"]["bytes"]
    return [
        {
            "from": link[0],
            "to": link[1],
            "via": link[2],
            "messages": count,
            "bytes": size,
            "classes": dict(sorted(classes[link].items(), key=lambda pair: -pair[1])),
        }
        for link, (count, size) in sorted(sums.items())
    ]


def points_asked(entries: Entries, partner: str, purpose: str) -> int:
    """Return how many blinded points a bank has sent to a partner, from the bank's own log.

    A message's envelope is as long as that of the head that announces the batches, which holds little else.

    Args:
        entries: the bank's log of one job.
        partner: who was asked.
        purpose: ``training`` or ``serving``.
    """
    head = f"{ASK}.{purpose}"
    sent = {entry["purpose"]: entry for entry in entries if entry["peer"] == partner}
    batches = [entry for name, entry in sent.items() if name.startswith(f"{head}.")]
    if head not in sent or not batches:
        return 0
    # A list of sizes takes about as many bytes as this; a point is 32, so that a few bytes more or less don't count.
    announced = len(batches) * len(f", {MAXIMUM_BATCH}")
    envelope = sent[head]["bytes"] / sent[head]["records"] - announced
    return sum(round((entry["bytes"] - envelope * entry["records"]) / POINT_BYTES) for entry in batches)
