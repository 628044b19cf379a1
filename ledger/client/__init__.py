"""Sending to the ledger so that nothing is lost and nothing is sent twice.

As data travels: a call enters `outbox` under the caller's idempotency key, gets its sender's next nonce and a
signature, and is durable before anybody sees it; `pump` sends it as often as it takes through a `ports` chain
(`embedded`, or `raw` for a chain of validators) and follows it to acknowledgement, receipt and finality. Whatever
can't be told for sure is UNKNOWN.
"""
