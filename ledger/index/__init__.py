"""The event index: a copy of the ledger's events and of what they add up to, for lists and time lines.

As data travels: `following` reads log entries of the own node and keeps them in `tables`, `folding` says what an event
changes, `audit` compares all of it with the chain and names each difference. Nothing is decided by the index: what a
bank relies on is asked of the chain at a final block.
"""
