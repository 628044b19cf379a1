"""What the page says, in English and Chinese."""

from __future__ import annotations

from collections.abc import Callable

ENGLISH, CHINESE = "en", "zh-CN"
LANGUAGES = (ENGLISH, CHINESE)

Say = Callable[[str], str]

_WORDS: dict[str, tuple[str, str]] = {
    "desk": ("Receivables desk", "应收账款工作台"),
    "login": ("Log in", "登录"),
    "logout": ("Log out", "退出"),
    "institution": ("Institution", "机构"),
    "token": ("Operator's token", "操作员令牌"),
    "token_hint": (
        "It lies in the file that operator_token_file of the configuration names.",
        "令牌位于配置项 operator_token_file 所指的文件中。",
    ),
    "receivables": ("Receivables", "应收账款"),
    "requests": ("Requests", "待办请求"),
    "register": ("Register a document", "登记单据"),
    "register_hint": (
        "JSON, or CSV with a head line. The draft blocks nobody until the obligor confirms or a bank attests.",
        "JSON 文件，或带表头的 CSV。债务人确权或银行见证之前，草稿不产生排他性。",
    ),
    "file": ("File", "文件"),
    "row": ("Row", "行"),
    "claim": ("Claim", "债权"),
    "part": ("Our part", "我方角色"),
    "state": ("State", "状态"),
    "flags": ("Flags", "标志"),
    "pledged": ("Pledged", "已质押"),
    "free": ("Free", "可质押"),
    "capacity": ("Capacity", "额度"),
    "amount": ("Amount", "金额"),
    "number": ("Number", "号码"),
    "seller": ("Seller", "卖方"),
    "buyer": ("Buyer", "买方"),
    "due": ("Due", "到期日"),
    "none": ("none", "无"),
    "nothing": ("Nothing here yet.", "暂无内容。"),
    "peer": ("Institution", "机构"),
    "kind": ("Request", "请求"),
    "way": ("Way", "方向"),
    "in": ("to us", "对方发来"),
    "out": ("from us", "我方发出"),
    "share": ("Share, %", "份额，%"),
    "accept": ("Sign and submit", "签署并提交"),
    "decline": ("Decline", "拒绝"),
    "confirm": ("Confirm the debt", "确权"),
    "attest": ("Attest and take a lien", "见证并质押"),
    "pledge": ("Pledge", "质押"),
    "transfer": ("Transfer", "转让"),
    "settle": ("State a payment", "登记付款"),
    "settle-lien": ("Payment to the bank", "向银行付款"),
    "settle-free": ("Payment to the owner", "向债权人付款"),
    "release": ("Release the lien", "解除质押"),
    "credit-note": ("Credit note", "红字冲减"),
    "ask": ("Ask", "请求"),
    "to": ("To", "对方"),
    "timeline": ("Time line", "时间线"),
    "liens": ("Liens", "质权"),
    "ours": ("ours", "我方"),
    "lien": ("Lien", "质权"),
    "block": ("Block", "区块"),
    "time": ("Time (UTC)", "时间（UTC）"),
    "event": ("Event", "事件"),
    "verify": ("Verify a file", "验证文件"),
    "verify_hint": (
        "Drop a file here, or choose one. It is hashed in this browser and does not leave it.",
        "将文件拖到此处或选择文件。哈希在浏览器内计算，文件不会离开本机。",
    ),
    "unknown_file": (
        "No receivable of this institution has this document. That says nothing about other institutions.",
        "本机构没有以此文件为单据的应收账款；这不说明其他机构的情况。",
    ),
    "integrity": ("Integrity", "完整性"),
    "issuer": ("Issuer", "签发方"),
    "status": ("Status", "状态"),
    "grade": ("Grade", "等级"),
    "intact": ("intact: the committed document", "完好：即所承诺的单据"),
    "other version": ("another version than on the ledger", "与账本上的版本不同"),
    "signed by the owner's certified key": ("the owner's certified key", "债权人的认证密钥"),
    "not claimed yet": ("not claimed yet", "尚未确立"),
    "back": ("All receivables", "全部应收账款"),
    "refused": ("Refused", "已拒绝"),
    "open": ("waits", "待处理"),
    "sent": ("on its way", "处理中"),
    "done": ("final", "已最终确认"),
    "declined": ("declined", "已谢绝"),
    "anchoring": ("being anchored", "锚定中"),
    "draft": ("draft", "草稿"),
    "confirmed": ("confirmed", "已确权"),
    "attested": ("attested", "已见证"),
    "settled": ("settled", "已结清"),
    "void": ("void", "已作废"),
    "released": ("released", "已解除"),
    "contested": ("contested", "有争议"),
    "live": ("live", "有效"),
    "owner": ("owner", "债权人"),
    "former": ("former owner", "原债权人"),
    "obligor": ("obligor", "债务人"),
    "bank": ("bank", "银行"),
    "short": ("short", "额度不足"),
    "conflict": ("conflict", "冲突"),
    "disputed": ("disputed", "争议"),
    "hold": ("hold", "冻结"),
    "unknown": (
        "Chain or checkpoint can't be relied on now. What is shown may be old, and nothing may be disbursed.",
        "当前无法依赖链或检查点。所示内容可能过时，请勿放款。",
    ),
    "Confirmed": ("The obligor confirmed", "债务人确权"),
    "Attested": ("A bank attested", "银行见证"),
    "Upgraded": ("The obligor confirmed later", "债务人补充确权"),
    "Pledged": ("Pledged to a bank", "质押给银行"),
    "Released": ("A lien was released", "质权解除"),
    "LienSettled": ("Paid to a bank", "向银行付款"),
    "FreeSettled": ("Paid to the owner", "向债权人付款"),
    "Credited": ("Reduced by a credit note", "红字冲减"),
    "Transferred": ("Transferred", "转让"),
    "Split": ("Split", "拆分"),
    "Amended": ("Amended", "变更"),
    "Reissued": ("Reissued", "重开"),
    "Voided": ("Voided", "作废"),
    "DuplicateNoticed": ("The same document was offered again", "同一单据被再次提交"),
    "Contended": ("A second owner contends", "出现第二权利人"),
    "Disputed": ("The obligor denies", "债务人否认"),
    "LienAssigned": ("A lien changed hands", "质权转移"),
    "LienFrozenUntil": ("A lien was frozen by its holder", "质权被持有人冻结"),
    "Renewed": ("A holder renewed", "持有人续期"),
    "Adopted": ("The contender took over", "竞争权利人接管"),
    "Resolved": ("The council decided", "理事会裁决"),
    "TagCollision": ("Its tag met another claim's", "标签与另一债权相撞"),
    "Held": ("Held by the council", "理事会冻结"),
}


def speaker(language: str) -> Say:
    """Return what says a word in a language; an unknown word says itself."""
    place = LANGUAGES.index(language) if language in LANGUAGES else 0

    def say(word: str) -> str:
        return _WORDS.get(word, (word, word))[place]

    return say


def preferred(cookie: str, accepted: str) -> str:
    """Return the language of a cookie, or else of the browser's wish."""
    if cookie in LANGUAGES:
        return cookie
    return CHINESE if accepted.lower().startswith("zh") else ENGLISH
