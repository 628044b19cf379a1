"""The model card: one per model, for people (Markdown) and for programs (JSON).

What each line means is in ``docs/model-card.md``. The order follows what a validator asks for: what for, of whose data,
made how, how private, how good, where it fails, who approved, which bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from concordat.report import facts, findings, learned, partner_sections, partners
from concordat.report import figures as fig
from concordat.report.result import Result, check
from concordat.report.words import band, count, figure, percent, same

VERSION = 1
PURPOSES = {
    "train": "Rank small enterprises that ask a bank of the consortium for credit by their risk of default.",
}


def card_json(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model card as JSON values.

    Raises:
        DataError: ``REPORT_RESULT`` or ``REPORT_HISTOGRAM``: it isn't a result.
    """
    found = check(result)
    card, figures, model = found["card"], found["figures"], found["model"]
    active = {*facts.banks(found), *facts.took_part(found)}
    made = {
        "version": VERSION,
        "model": {
            "name": str(card.get("title") or card.get("name") or found["name"]),
            "version": model["version"],
            "state": model["state"],
            "made_at": card.get("made_at"),
        },
        "purpose": {
            "stated": card.get("purpose"),
            "use": PURPOSES.get(str(card.get("purpose")), str(card.get("purpose") or "not stated")),
            "not_for": "Decisions without a person who can overrule them; borrowers other than small enterprises; "
            "a PD taken as a number where calibration below says otherwise.",
        },
        "consortium": found["consortium"],
        "data": {
            "name": found["data"]["name"],
            "enterprises": found["data"]["enterprises"],
            "training_rows": figures["training_rows"],
            "base_rate": figures["base_rate"],
            "holdout_rows": figures["holdout_rows"],
            "holdout_defaults": figures["holdout_defaults"],
            "holdout": card.get("holdout"),
        },
        "parties": [{**party, "took_part": party["name"] in active} for party in found["data"]["parties"]],
        "dropped": list(card.get("dropped", [])),
        "training": {
            "procedure": findings.training_note(found).en,
            "recipe": card.get("recipe", {}),
            "attempts": card.get("attempts"),
            "seed": card.get("seed"),
        },
        "privacy": {
            "release": dict(found["release"]),
            "epsilon": facts.spent(found),
            "statement": findings.privacy_note(found).en,
            "accountants": list(found.get("privacy", [])),
            "learned": [
                {"who": entry.who.en, "learned": entry.learned.en, "did_not_learn": entry.hidden.en}
                for entry in learned.learned(found)
            ],
            "not_protected": [entry.en for entry in learned.not_protected(found)],
        },
        "figures": _figures(found),
        "calibration": {
            "slope": figures["calibration"]["slope"],
            "intercept": figures["calibration"]["intercept"],
            "statement": findings.calibration_note(found).en,
            "bins": [
                {
                    "lower": bin_.lower,
                    "upper": bin_.upper,
                    "rows": bin_.rows,
                    "predicted": bin_.mean_pd,
                    "observed": bin_.observed,
                    "interval_95": [bin_.interval.lower, bin_.interval.upper],
                    "inside": not bin_.off,
                }
                for bin_ in fig.calibration_bins(figures)
            ],
        },
        "limitations": [entry.en for entry in findings.limitations(found)],
        "approvals": {
            "statement": findings.approval_note(found).en,
            "banks": [] if facts.simulated(found) else facts.banks(found),
            "validator": None,
        },
        "digests": {
            "model": model["digest"],
            "job": model["job"],
            **{name: str(card.get(name) or "") for name in ("proposal", "contract", "code")},
        },
    }
    if facts.joint(found):
        made["with_partners"] = _with_partners(found)
    return made


def _with_partners(result: Result) -> dict[str, Any]:
    """Return what the card says of data partners: models against H+, coverage, privacy spent, sizes."""
    figures = result["figures"]
    return {
        "serving": figures.get("serving"),
        "promotable": facts.promotable(result),
        "statement": partners.gain(result).en,
        "compute": facts.compute(result),
        "models": {
            name: {
                "what": partners.MODELS[name].en,
                "auc": model["auc"],
                "ks": model["ks"],
                "brier": model["brier"],
                "recalibration": dict(model["recalibration"]),
                "against_h_plus": None if model["comparison"] is None else dict(model["comparison"]),
            }
            for name, model in figures.get("models", {}).items()
            if name in partners.MODELS
        },
        "partners": {name: dict(entry) for name, entry in result["partners"].items()},
        "coverage": {
            partner: {bank: dict(known) for bank, known in by_bank.items()}
            for partner, by_bank in result["coverage"].items()
        },
        "privacy_spent": {name: dict(entry) for name, entry in result["privacy_spent"].items()},
        "privacy_statement": partners.privacy_note(result).en,
    }


def _figures(result: Result) -> dict[str, Any]:
    figures = result["figures"]
    interval = fig.auc_interval(figures)
    counted = figures["histogram"]
    return {
        "auc": {
            "value": figures["auc"],
            "standard_error": fig.auc_error(counted["good"], counted["bad"]),
            "interval_95": [interval.lower, interval.upper],
            "method": "DeLong, from counts by cell of the hold-out",
        },
        "ks": figures["ks"],
        "brier": figures["brier"],
        "yardsticks": {
            "what": "gradient-boosted trees (LightGBM) on the same split and the same held-out rows",
            "auc": dict(result["auc"]),
            "ks": dict(result["ks"]),
        },
    }


def _md(value: object) -> str:
    """Escape text of others for Markdown: no markup, no HTML, no line or cell of its own."""
    text = " ".join(str(value).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\`*_[]|#~":
        text = text.replace(mark, "\\" + mark)
    # An address must not become a link by itself.
    return text.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


def _rows(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a table; the first column holds words, the others numbers."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return [f"| {' | '.join(line)} |" for line in (head, rule, *rows)] + [""]


def card_markdown(result: Mapping[str, Any]) -> str:
    """Return the model card as Markdown.

    Raises:
        DataError: ``REPORT_RESULT`` or ``REPORT_HISTOGRAM``: it isn't a result.
    """
    found, card = check(result), card_json(result)
    auc, ks = found["auc"], found["ks"]
    lines = [
        f"# Model card: {_md(card['model']['name'])}, version {card['model']['version']}",
        "",
        f"{_md(findings.headline(found).en)} {_md(findings.against_ceiling(found).en)}",
        "",
        f"> 中文摘要：{_md(findings.headline(found).zh)}{_md(findings.against_ceiling(found).zh)}"
        f"{_md(findings.calibration_note(found).zh)}{_md(findings.privacy_note(found).zh)}",
        "",
        "## Purpose",
        "",
        f"- **For:** {_md(card['purpose']['use'])}",
        f"- **Not for:** {card['purpose']['not_for']}",
        "",
        "## Data and parties",
        "",
        f"Consortium: {_md(found['consortium'])}. Data: {_md(card['data']['name'])}; "
        f"{count(card['data']['enterprises'])} enterprises at the banks. Trained on "
        f"{count(card['data']['training_rows'])} "
        f"rows with {percent(card['data']['base_rate'])} defaults; measured on "
        f"{count(card['data']['holdout_rows'])} "
        f"held-out rows with {count(card['data']['holdout_defaults'])} defaults.",
        "",
    ]
    lines += _rows(
        ["party", "role", "rows", "fields", "took part"],
        [
            [
                _md(p["name"]),
                _md(p["role"]),
                count(p["rows"]),
                count(p["fields"]),
                "yes" if p["took_part"] else "no",
            ]
            for p in card["parties"]
        ],
    )
    if card["dropped"]:
        lines += [f"Dropped out before the end: {_md(', '.join(card['dropped']))}.", ""]
    lines += [
        "## Features and training",
        "",
        _md(card["training"]["procedure"]),
        "",
        f"Attempts: {_md(card['training']['attempts'])}. Seed: "
        f"{'secret, gone with the job' if card['training']['seed'] is None else _md(card['training']['seed'])}. "
        f"The fields and their meaning: data contract `{_digest(card['digests']['contract'])[:12]}`.",
        "",
        "Recipe: " + ", ".join(f"{_md(k)} {_md(v)}" for k, v in card["training"]["recipe"].items()) + ".",
        "",
        "## Privacy: who learned what",
        "",
        _md(card["privacy"]["statement"]),
        "",
    ]
    for entry in card["privacy"]["learned"]:
        lines += [
            f"- **{_md(entry['who'])}** learned {_md(entry['learned'])}. Not learned: "
            f"{_md(entry['did_not_learn'])}."
        ]
    lines += ["", "Not protected:", "", *[f"- {_md(text)}" for text in card["privacy"]["not_protected"]], ""]
    interval = card["figures"]["auc"]["interval_95"]
    lines += ["## Figures", ""]
    lines += _rows(
        ["model", "AUC", "KS"],
        [
            *[
                [f"{_md(bank)} alone", figure(value), figure(ks["bank_only"].get(bank, 0.0))]
                for bank, value in sorted(auc["bank_only"].items())
            ],
            ["mean of the banks alone", figure(auc["bank_only_mean"]), figure(ks["bank_only_mean"])],
            ["**shared score**", f"**{figure(auc['federated'])}**", f"**{figure(ks['federated'])}**"],
            ["pooled ceiling", figure(auc["pooled"]), figure(ks["pooled"])],
        ],
    )
    if facts.joint(found):
        lines += _partner_lines(found)
    lines += [
        f"AUC of the shared score: {figure(card['figures']['auc']['value'])}, 95 % interval "
        f"{figure(interval[0])} to "
        f"{figure(interval[1])} (standard error {card['figures']['auc']['standard_error']:.4f}; DeLong, "
        f"from counts by "
        f"cell). Brier score {card['figures']['brier']:.4f}. Yardsticks: "
        f"{card['figures']['yardsticks']['what']}.",
        "",
        "## Calibration",
        "",
        _md(card["calibration"]["statement"]),
        "",
    ]
    lines += _rows(
        ["predicted rate, band", "mean predicted", "observed", "95 % interval (Wilson)", "rows"],
        [
            [
                band(b["lower"], b["upper"]),
                percent(b["predicted"]),
                percent(b["observed"]) + ("" if b["inside"] else " (!)"),
                band(*b["interval_95"]),
                count(b["rows"]),
            ]
            for b in card["calibration"]["bins"]
        ],
    )
    lines += ["## Where it fails, and what was not tested", ""]
    lines += [f"- {_md(text)}" for text in card["limitations"]]
    lines += ["", "## Approvals", "", _md(card["approvals"]["statement"]), "", "## Digests", ""]
    lines += [f"- {name}: `{_digest(value)}`" for name, value in card["digests"].items() if value]
    return "\n".join(lines) + "\n"


def _partner_lines(result: Result) -> list[str]:
    """Return the card's lines on data partners: models, coverage, privacy spent."""
    made = [_md(partners.gain(result).en), ""]
    for table in (
        partner_sections.models(result).table,
        partner_sections.coverage(result).table,
        partner_sections.spent(result),
    ):
        rows = [[_md(same(cell).en) for cell in row] for row in table.rows]
        made += [f"{_md(same(table.caption).en)}:", "", *_rows([_md(same(h).en) for h in table.head], rows)]
    return made


def _digest(value: str) -> str:
    """Return a digest for a code span, in which nothing can be escaped."""
    return "".join(c for c in value if c.isalnum() or c in "-_.:")
