"""The registry of receivables on an Ethereum-compatible chain."""
