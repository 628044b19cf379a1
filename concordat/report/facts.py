"""What a result says by itself: who took part, how, and whether its logs name kinds of data that are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from concordat.report.result import Result
from concordat.report.words import Both

KINDS: Mapping[str, Both] = {
    "blinded points": Both(
        "ids under a blind that only the bank knows, with dummies among them: to the partner, points at random",
        "以仅银行所知的盲因子遮盖的标识，夹有虚拟项：对数据方而言是随机点",
    ),
    "evaluated points": Both(
        "the same points under the partner's key, with a proof: only the bank that blinded them can use them",
        "同一批点经数据方密钥求值并附证明：仅发出盲点的银行可用",
    ),
    "masked table": Both(
        "a tag and masked bits for each row of the partner: a bank can use the rows of ids that it asked for, no "
        "others",
        "数据方每行一个标签和被掩码的比特：银行只能用它查询过的标识所在行",
    ),
    "masked product": Both(
        "weights under a one-time mask, spread over all places of the table: numbers at random, as many whoever is a "
        "client",
        "一次性掩码下的权重，铺满整张表的所有位置：随机数，数量与谁是客户无关",
    ),
    "masked sum": Both(
        "sums under masks that cancel only when all shares are added",
        "只有全部份额相加时掩码才抵消的合计",
    ),
    "masked update": Both(
        "a bank's network under pairwise and group masks: the server adds what it can't read",
        "两两掩码与组掩码下的银行网络参数：服务器只做看不懂的加法",
    ),
    "sealed key": Both("a key, encrypted for the one party that needs it", "仅供所需一方解密的密钥"),
    "state": Both(
        "one word: whether the job's release was read before", "一个词：本作业的发布此前是否已读取"
    ),
    "signature": Both(
        "a signed statement: who takes part, what was charged, what was published",
        "签名声明：谁参与、扣除了多少隐私预算、发布了什么",
    ),
    "digest": Both(
        "a fingerprint of the encoding; from a partner, whether it published and the seconds it took",
        "编码的摘要；来自数据方的则为是否发布与用时",
    ),
    "decision": Both("yes or no to the job, signed", "对作业的同意或拒绝（签名）"),
    "error code": Both("the name of an error", "错误代码"),
    "figures": Both("the figures on this page, from masked sums, signed", "本页指标（来自掩码求和，带签名）"),
    "keys and commitment": Both(
        "the party's public keys for this job, and a salted fingerprint of its cohort",
        "本作业的公钥与加盐的样本摘要",
    ),
    "public keys": Both("the party's public keys, once, at enrolment", "入盟时一次性登记的公钥"),
}
"""Kinds of data in egress logs that are known to hold no row, by the protocol, in plain words."""


def simulated(result: Result) -> bool:
    """Tell whether the job ran in one process, without messages."""
    return result["model"]["state"] == "simulated"


def banks(result: Result) -> list[str]:
    """Return the banks that trained the model."""
    named = result["card"].get("banks")
    return [str(name) for name in named] if named else sorted(result["auc"]["bank_only"])


def idle(result: Result) -> list[str]:
    """Return the parties with tables that took no part in the job."""
    active = {*banks(result), *took_part(result)}
    return [party["name"] for party in result["data"]["parties"] if party["name"] not in active]


def private(result: Result) -> bool:
    """Tell whether the model was released under differential privacy."""
    return result["release"]["kind"] == "dp"


def spent(result: Result) -> float | None:
    """Return the ε that the banks' accountants report, the largest; None without a private release."""
    reported = [
        float(entry["epsilon"]) for entry in result.get("privacy", []) if entry.get("epsilon") is not None
    ]
    return max(reported) if private(result) and reported else None


def unknown_classes(result: Result) -> list[str]:
    """Return field classes in the egress logs that this report knows nothing of."""
    seen = {entry["field_class"] for entries in result["egress"].values() for entry in entries}
    return sorted(seen - set(KINDS))


def joint(result: Result) -> bool:
    """Tell whether data partners were part of the job."""
    return bool(result.get("partners"))


def terms(result: Result) -> Mapping[str, Any]:
    """Return what the job's proposal says of its stages with partners."""
    stated = result["card"].get("vertical")
    return stated if isinstance(stated, Mapping) else {}


def compute(result: Result) -> str:
    """Return the name of the compute party."""
    return str(terms(result).get("compute", "T"))


def used(result: Result) -> list[str]:
    """Return the partners whose sub-scores the shared risk model takes."""
    return [name for name, partner in result.get("partners", {}).items() if partner["used"]]


def unused(result: Result) -> list[str]:
    """Return the partners that were asked and whose sub-scores no model takes."""
    return [name for name, partner in result.get("partners", {}).items() if not partner["used"]]


def took_part(result: Result) -> list[str]:
    """Return the parties beside the banks that the job was done with."""
    if not joint(result):
        return []
    return [*result["partners"], compute(result)]


def promotable(result: Result) -> bool:
    """Tell whether the model may come into use; of a job without partners nothing speaks against it."""
    return bool(result["figures"].get("promotable", not joint(result)))
