"""The result of a job, as plain JSON: what the demo prints with ``--format json`` and what a report is made of.

Shares, rates and probabilities lie in [0, 1]; times are seconds, sizes bytes; a curve is a list of
``[false positive rate, true positive rate]``. Unknown keys pass, so that a result can say more than a report shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, NotRequired, cast

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from protocol.errors import DataError

Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Point = Annotated[list[Share], Field(min_length=2, max_length=2)]
Curve = Annotated[list[Point], Field(min_length=2)]


class Party(TypedDict):
    """A party and its table."""

    name: str
    role: str
    rows: Count
    fields: Count


class Data(TypedDict):
    """What the job's tables were; only a demo can see all of them."""

    name: str
    enterprises: Count
    parties: list[Party]
    banks_defaults: dict[str, Count]


class Comparison(TypedDict):
    """One figure of the shared score between its yardsticks, all on the same held-out rows.

    ``bank_only``: boosted trees on one bank's rows, by bank; ``federated``: the model that serves; ``pooled``: boosted
    trees on all banks' rows, which nobody may compute in real life. With data partners also each model of the job:
    ``h``, ``h_plus``, ``s``, ``s_head``; and the ceilings with the partners' columns joined: ``pooled_all``, the same
    within each bank and averaged by rows (AUC only), and with one partner's columns.
    """

    bank_only: Annotated[dict[str, Share], Field(min_length=1)]
    bank_only_mean: Share
    federated: Share
    pooled: Share
    h: NotRequired[Share]
    h_plus: NotRequired[Share]
    s: NotRequired[Share]
    s_head: NotRequired[Share]
    pooled_all: NotRequired[Share]
    pooled_all_within_banks: NotRequired[Share]
    pooled_with: NotRequired[dict[str, Share]]


class Cell(TypedDict):
    """A cell of the calibration table."""

    lower: Share
    upper: Share
    rows: Annotated[int, Field(ge=1)]
    mean_pd: Share
    observed: Share


class Calibration(TypedDict):
    """Predicted against observed default rates; slope and intercept are None where not determined."""

    slope: Number | None
    intercept: Number | None
    cells: Annotated[list[Cell], Field(min_length=1)]


class Histogram(TypedDict):
    """Held-out rows by cell of PD: n + 1 edges, n counts of each kind."""

    edges: Annotated[list[Number], Field(min_length=2)]
    good: Annotated[list[Count], Field(min_length=1)]
    bad: Annotated[list[Count], Field(min_length=1)]


class Difference(TypedDict):
    """A model's AUC less that of the model that it is compared with, and its 95 % interval (DeLong)."""

    against: str
    difference: Number
    standard_error: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    lower: Number
    upper: Number


class Recalibration(TypedDict):
    """The line of log-odds that a score goes through before it is used."""

    slope: Number
    intercept: Number


class Scored(TypedDict):
    """One model of a job with partners; more keys, those of ``Figures``, may stand beside."""

    auc: Share
    ks: Share
    brier: Share
    recalibration: Recalibration
    comparison: Difference | None


class Figures(TypedDict):
    """The model's figures, as the banks signed them."""

    auc: Share
    ks: Share
    brier: Share
    holdout_rows: Count
    holdout_defaults: Count
    roc: Curve
    calibration: Calibration
    histogram: Histogram
    training_rows: Count
    base_rate: Share
    serving: NotRequired[str]
    promotable: NotRequired[bool]
    models: NotRequired[dict[str, Scored]]
    comparison: NotRequired[Difference | None]


class Curves(TypedDict):
    """ROC curves of the yardsticks."""

    bank_only: dict[str, Curve]
    pooled: Curve
    pooled_all: NotRequired[Curve]


class Times(TypedDict):
    """Seconds of the parts of a run."""

    start_up: Seconds
    job: Seconds
    baselines: Seconds
    total: Seconds


class Step(TypedDict):
    """A step of the job; steps overlap where one holds another. A partner's own part stands ``within`` one."""

    step: str
    seconds: Seconds
    bytes: Count
    parties: Count
    within: NotRequired[str]


# ``from`` is a keyword, hence the other way of writing it.
Link = TypedDict(
    "Link",
    {
        "from": str,
        "to": str,
        "via": str,
        "messages": Count,
        "bytes": Count,
        "classes": NotRequired[dict[str, Count]],
    },
)
"""Messages and bytes of one direction between two parties; bytes by kind of data where the sender is a node."""


class Release(TypedDict):
    """What left a node, added up over records of its egress log with the same peer, purpose and class."""

    peer: str
    purpose: str
    field_class: str
    records: Count
    bytes: Count


class Model(TypedDict):
    """The registered model. State ``simulated`` with version 0 stands for a job in one process."""

    version: Count
    digest: str
    job: str
    state: str


class Privacy(TypedDict):
    """How the model was released: ``none`` or ``dp``."""

    kind: str
    epsilon: NotRequired[Number | None]
    delta: NotRequired[Number | None]


class Coverage(TypedDict):
    """What a partner knows of one bank's clients; only a demo can see it from outside.

    ``listed`` and ``consented`` (listed, and with the enterprise's consent where the job asks for it) are shares of
    ``clients``; ``bins`` is how many clients the bank has read a sub-score of.
    """

    clients: Count
    listed: Share
    consented: Share
    bins: Count


class Spent(TypedDict):
    """What the release to a partner costs; numbers of an exact release are None.

    ``sigma``: standard deviation of T's noise on each sum, and of the banks' together; ``noise``: of both, as the
    partner meets it; ``total_epsilon``: of all ``releases`` to the partner that were signed so far.
    """

    epsilon: Number | None
    delta: Number | None
    mu: Number | None
    memberships: Count
    sigma: Number | None
    noise: Number | None
    released: bool
    releases: Count
    total_mu: Number
    total_epsilon: Number


class Partner(TypedDict):
    """What a data partner brought: ``asked`` is the padded number of ids, by bank and purpose."""

    published: bool
    used: bool
    released: bool
    slots: Count
    components: Count
    asked: dict[str, dict[str, Count]]
    seconds: dict[str, Seconds]


class Ledger(TypedDict):
    """What the chapter on the ledger tells people."""

    lines: list[str]


class Result(TypedDict):
    """Everything that a report says; the last three only of a job with data partners, the ledger only of a tour."""

    name: str
    consortium: str
    data: Data
    auc: Comparison
    ks: Comparison
    figures: Figures
    curves: Curves
    seconds: Times
    steps: list[Step]
    links: list[Link]
    egress: dict[str, list[Release]]
    verified: dict[str, bool]
    ledger: NotRequired[Ledger]
    model: Model
    card: dict[str, Any]
    release: Privacy
    privacy: NotRequired[list[dict[str, Any]]]
    partners: NotRequired[dict[str, Partner]]
    privacy_spent: NotRequired[dict[str, Spent]]
    coverage: NotRequired[dict[str, dict[str, Coverage]]]


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Result]:
    return TypeAdapter(Result)


def schema() -> dict[str, Any]:
    """Return the result's JSON Schema."""
    made = _adapter().json_schema()
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["$id"] = "urn:concordat:schema:result"
    return made


def check(result: Mapping[str, Any]) -> Result:
    """Return a result whose shape is known to be right.

    Raises:
        DataError: ``REPORT_RESULT`` with the first place that is wrong or doesn't fit the partners,
            ``REPORT_HISTOGRAM`` if counts and edges don't fit together or a kind of outcome is missing.
    """
    try:
        _adapter().validate_python(dict(result))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(
            "REPORT_RESULT",
            f"A report can't be made of this result: {place}: {first['msg']}.",
            "Give the object that the demo prints with --format json.",
        ) from None
    found = cast("Result", result)
    counted = found["figures"]["histogram"]
    cells = len(counted["good"])
    edges = counted["edges"]
    if len(counted["bad"]) != cells or len(edges) != cells + 1 or edges != sorted(edges):
        raise DataError("REPORT_HISTOGRAM", "The score histogram's counts and edges don't fit together.")
    if sum(counted["good"]) == 0 or sum(counted["bad"]) == 0:
        raise DataError("REPORT_HISTOGRAM", "The score histogram has one kind of outcome only.")
    if found.get("partners"):
        _check_partners(found)
    return found


def _check_partners(result: Result) -> None:
    """Refuse a result that names partners without saying what they came to."""
    names = set(result["partners"])
    wanted = {
        "privacy_spent": set(result.get("privacy_spent", {})) == names,
        "coverage": set(result.get("coverage", {})) == names,
        "figures.models": {"h", "h_plus"} <= set(result["figures"].get("models", {})),
        "auc": {"h", "h_plus", "pooled_all", "pooled_all_within_banks", "pooled_with"} <= set(result["auc"]),
    }
    for place, fits in wanted.items():
        if not fits:
            raise DataError(
                "REPORT_RESULT",
                f"A report can't be made of this result: {place} doesn't fit its partners.",
                "Give the object that the demo prints with --format json.",
            )
