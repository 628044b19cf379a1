"""Proofs as one file: what stands in the registry, or doesn't, for anybody, offline.

A file holds a statement, what it takes to follow it to a storage word (`trie`, `ledger.storage`, `fields`), the block
header, and the checkpoint over it with the members' cosignatures (`state`). `making` needs a member's replica;
`verifying` needs the file and what the reader trusts (`trust`). Verdicts and words are in `verdict`.
"""
