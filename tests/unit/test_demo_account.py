"""Steps, links and questions of a job, from its events and egress logs."""

from __future__ import annotations

from typing import Any

from concordat.account import JOINT, links_of, points_asked, steps_of, told_of

BANKS, PARTNERS = ("bank-1", "bank-2", "bank-3"), ("city", "market")


def event(at: float, step: str, kind: str, party: str = "", **detail: Any) -> dict[str, Any]:
    return {"at": at, "step": step, "party": party, "kind": kind, "detail": detail}


def session(begin: float, *, centring: bool = True) -> list[dict[str, Any]]:
    """Events of a session with partners: 40 s from the last opening before the joint stages to the one after."""
    made = [event(begin, "session", "asked", party, bytes=100) for party in (*BANKS, *PARTNERS, "compute")]
    made += [event(begin + 1, "roster", "sent", bank, bytes=10) for bank in BANKS]
    made.append(event(begin + 2, "roster", "opened", bytes=30))
    if centring:
        made += [event(begin + 4, "centring", "sent", bank, bytes=10) for bank in BANKS]
        made.append(event(begin + 5, "centring", "opened", bytes=30))
    start = begin + (5 if centring else 2)
    made += [event(start + 39, "published", "sent", bank, bytes=10) for bank in BANKS]
    made.append(event(start + 40, "published", "opened", bytes=30))
    told = {"published": True, "seconds": {"answers": 3.0, "tables": 11.5}}
    made += [event(start + 42, JOINT, "ended", "city", told=told)]
    made += [event(start + 42, JOINT, "ended", "compute", told={"given": ["city", "market"]})]
    return [*made, event(start + 43, "session", "done", partners=["city"])]


def entry(peer: str, purpose: str, kind: str, size: int, records: int = 1) -> dict[str, Any]:
    return {"peer": peer, "purpose": purpose, "field_class": kind, "records": records, "bytes": size}


EGRESS = {
    "bank-1": [
        entry("coordinator", "roster", "signature", 10),
        entry("bank-2", "group", "sealed key", 263),
        entry("compute", "dense.city.0", "masked product", 5000),
        entry("compute", "signature.city", "signature", 600),
        entry("coordinator", "train (Flower)", "masked update", 9000, 10),
    ],
    "city": [entry("bank-1", "table.0", "masked table", 700), entry("bank-1", "bins.0", "masked table", 200)],
}


def test_stages_with_partners_last_from_centring_to_the_statement_on_what_was_published() -> None:
    found = {step["step"]: step for step in steps_of(session(100.0), EGRESS)}
    assert found[JOINT] == {"step": JOINT, "seconds": 40.0, "bytes": 6500, "parties": 3}


def test_step_with_partners_stands_between_its_neighbours() -> None:
    order = [step["step"] for step in steps_of(session(100.0)) if "within" not in step]
    assert order == ["session", "roster", "centring", JOINT, "published"]


def test_a_partner_s_own_parts_stand_within_it_the_longest_first() -> None:
    parts = [step for step in steps_of(session(0.0)) if step.get("within") == JOINT]
    assert [(part["step"], part["seconds"]) for part in parts] == [
        ("city: tables", 11.5),
        ("city: answers", 3.0),
    ]


def test_a_second_attempt_adds_its_own_time_and_none_in_between() -> None:
    events = [*session(0.0), event(500.0, "attempt", "void"), *session(600.0, centring=False)]
    found = {step["step"]: step for step in steps_of(events)}
    assert found[JOINT]["seconds"] == 80.0


def test_an_attempt_that_ended_before_publication_takes_no_time_from_the_next() -> None:
    cut = [one for one in session(0.0) if one["step"] not in ("published", JOINT)]
    found = {step["step"]: step for step in steps_of([*cut, *session(600.0, centring=False)])}
    assert found[JOINT]["seconds"] == 40.0


def test_a_statement_that_is_opened_again_adds_no_time() -> None:
    events = [*session(0.0), event(300.0, "published", "opened", bytes=30)]
    found = {step["step"]: step for step in steps_of(events)}
    assert found[JOINT]["seconds"] == 40.0


def test_a_job_without_partners_has_no_such_step() -> None:
    events = [one for one in session(0.0) if one["step"] not in ("published", JOINT)]
    assert JOINT not in {step["step"] for step in steps_of(events)}


def test_the_last_word_of_each_party_counts() -> None:
    events = [*session(0.0), event(900.0, JOINT, "ended", "city", told={"published": False})]
    assert told_of(events) == {"city": {"published": False}, "compute": {"given": ["city", "market"]}}


def test_links_say_how_much_of_which_kind_of_data() -> None:
    events = [event(0.0, "train", "asked", "bank-1", bytes=77)]
    links = {(link["from"], link["to"], link["via"]): link for link in links_of(EGRESS, events)}
    assert links[("bank-1", "compute", "exchange")]["classes"] == {"masked product": 5000, "signature": 600}
    assert links[("city", "bank-1", "exchange")]["classes"] == {"masked table": 900}
    assert links[("bank-1", "coordinator", "Flower")]["classes"] == {"masked update": 9000}
    assert links[("coordinator", "bank-1", "Flower")] == {
        "from": "coordinator",
        "to": "bank-1",
        "via": "Flower",
        "messages": 1,
        "bytes": 77,
        "classes": {},
    }
    assert all(sum(link["classes"].values()) in (0, link["bytes"]) for link in links.values())


def asked(count: int, envelope: int = 193) -> list[dict[str, Any]]:
    """A bank's log of one question, as `bank_node.lookups` cuts it."""
    sizes = [min(65_535, count - at) for at in range(0, count, 65_535)]
    head = entry("city", "ask.training", "blinded points", envelope + len(str(sizes)))
    return [
        head,
        *[
            entry("city", f"ask.training.{number}", "blinded points", envelope + 2 + 32 * size)
            for number, size in enumerate(sizes)
        ],
    ]


def test_number_of_points_is_read_from_the_log_exactly() -> None:
    for count in (1, 7, 8, 6144, 65_535, 65_536, 98_304, 1_048_576):
        for envelope in (150, 193, 260):
            assert points_asked(asked(count, envelope), "city", "training") == count


def test_a_bank_that_asked_nothing_new_or_nobody_has_asked_nothing() -> None:
    assert points_asked(asked(0), "city", "training") == 0
    assert points_asked([], "city", "training") == 0
    assert points_asked(asked(8), "market", "training") == 0
    assert points_asked(asked(8), "city", "serving") == 0


def test_log_of_a_real_demonstration() -> None:
    # Sizes from a deployed run with 24,000 enterprises.
    log = [
        entry("city", "ask.serving", "blinded points", 199),
        entry("city", "ask.serving.0", "blinded points", 327_874),
    ]
    assert points_asked(log, "city", "serving") == 10_240
