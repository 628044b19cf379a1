"""The embedded ledger: one process orders, every member replays and co-signs.

As data travels: a raw transaction enters through `gateway` (HTTP, allowlist), is checked by `transactions`,
ordered by `sequencer`, made durable by `log` (records of `records`), executed by an engine behind `port`
(`edr` or `anvil`), acknowledged with a signature (`acknowledgement`) and covered by a checkpoint
(`checkpoints`). A member's `replica` pulls the log, replays it in its own engine, judges what it sees
(`witness`), co-signs, and keeps `evidence` when the operator or another member contradicts itself.

This is a single-sequencer ledger with replicated verification, not a consensus network.
"""
