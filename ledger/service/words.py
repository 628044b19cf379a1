"""What a refusal means, for people: English and Chinese. It names the conflict, never another bank, never a value of a
document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Words = tuple[str, str]

_WORDS: dict[str, Words] = {
    "LEDGER_TAG_TAKEN": (
        "This document is registered already; another claim holds its tag.",
        "该单据已被登记，另一笔债权占用其标签。",
    ),
    "LEDGER_OVER_CAPACITY": (
        "Not enough of the receivable is free: {free} can still be pledged.",
        "可质押余额不足：目前只剩 {free}。",
    ),
    "LEDGER_OVER_CONSENT": (
        "The bank asks for more than the owner consented to.",
        "质权人要求的份额超过了所有人的同意范围。",
    ),
    "LEDGER_CONSENT_USED": ("This consent was used for another pledge.", "该同意书已被使用。"),
    "LEDGER_CONSENT_EXPIRED": ("The consent has expired.", "同意书已过期。"),
    "LEDGER_SIGNATURE_EXPIRED": ("A signature has expired.", "签名已过期。"),
    "LEDGER_ALREADY_APPLIED": ("It is on the ledger already; nothing changed.", "已在账本上，无任何变化。"),
    "LEDGER_NONCE_USED": ("This statement was withdrawn or used.", "该声明已撤回或已使用。"),
    "LEDGER_COMMIT_TOO_YOUNG": (
        "The draft must be one block older; try again.",
        "草稿须至少早一个区块，请重试。",
    ),
    "LEDGER_COMMIT_EXPIRED": (
        "The draft is older than 30 days; register again.",
        "草稿已超过 30 天，请重新登记。",
    ),
    "LEDGER_NOT_ANCHORED": ("The draft is not anchored.", "草稿尚未锚定。"),
    "LEDGER_FROZEN": ("The receivable is frozen ({flags}).", "该应收账款已冻结（{flags}）。"),
    "LEDGER_OVERDUE": ("The receivable is overdue.", "该应收账款已逾期。"),
    "LEDGER_DUE_TOO_FAR": ("The due date is more than a year away.", "到期日超过一年。"),
    "LEDGER_TAG_MISMATCH": (
        "The document's tag belongs to another claim than this one.",
        "该单据的标签属于另一笔债权。",
    ),
    "LEDGER_WRONG_STATE": ("The claim is not in a state that allows this.", "债权当前状态不允许此操作。"),
    "LEDGER_STALE_SEQ": ("The claim has changed since this was signed.", "签署之后债权状态已变化。"),
    "LEDGER_STALE_VERSION": (
        "Owner or terms have changed since this was signed.",
        "签署之后权利人或条款已变化。",
    ),
    "LEDGER_NOT_HOLDER": ("The lien is not held by this key.", "该密钥不是质权持有人。"),
    "LEDGER_LIEN_ENDED": ("The lien has ended already.", "该质权已终止。"),
    "LEDGER_LIEN_FROZEN": ("The lien is frozen by its holder.", "该质权已被持有人冻结。"),
    "LEDGER_NOT_LOWER": ("The capacity would not fall.", "额度没有降低。"),
    "LEDGER_BELOW_PLEDGED": ("More is pledged than would remain.", "剩余额度低于已质押额度。"),
    "LEDGER_OVER_LIEN": ("The payment exceeds the lien.", "付款超过质权金额。"),
    "LEDGER_BAD_SIGNATURE": ("A signature is wrong.", "签名无效。"),
    "LEDGER_BAD_CERTIFICATE": ("A key's certificate is not the registry's.", "密钥证书无效。"),
    "LEDGER_CERTIFICATE_REVOKED": ("A key's certificate was revoked.", "密钥证书已被吊销。"),
    "LEDGER_CERTIFICATE_EXPIRED": ("A key's certificate has expired.", "密钥证书已过期。"),
    "LEDGER_CONTRACT_ENCUMBERED": ("The framework contract is encumbered itself.", "框架合同本身已被质押。"),
    "LEDGER_PAUSED": ("The council has paused new business.", "理事会已暂停新业务。"),
    "LEDGER_QUOTA_EXCEEDED": ("The member's daily quota is used up.", "成员当日配额已用完。"),
    "DECLINED": ("The other institution declined.", "对方已拒绝。"),
}
_FLAGS = {1: ("short", "额度不足"), 2: ("conflict", "冲突"), 4: ("disputed", "争议"), 8: ("hold", "冻结")}


def percent(ppm: int) -> str:
    """Return parts per million as people read a share."""
    return f"{ppm / 10_000:.4f}".rstrip("0").rstrip(".") + " %"


def refusal(code: str, detail: Mapping[str, Any]) -> Words:
    """Return why something was refused, in English and Chinese."""
    english, chinese = _WORDS.get(code, ("", ""))
    if not english:
        words = code.removeprefix("LEDGER_").removeprefix("TX_").replace("_", " ").lower()
        return f"The ledger refused: {words or 'no reason'}.", f"账本拒绝：{code}。"
    flags = int(detail.get("flags", 0))
    names = [words for bit, words in _FLAGS.items() if flags & bit]
    free = percent(int(detail.get("free", 0)))
    return (
        english.format(free=free, flags=", ".join(each[0] for each in names) or "flag"),
        chinese.format(free=free, flags="、".join(each[1] for each in names) or "标志"),
    )


def told(detail: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a refusal that may be shown: numbers, never another claim's or key's id."""
    return {name: value for name, value in detail.items() if type(value) is int}
