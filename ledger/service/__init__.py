"""An institution's ledger service: its keys, its dossiers, its calls, in one process of its own.

As data travels: a document enters as a `dossier`, becomes statements (`statements`) that this party and another sign
(`requests`), which `desk` turns into calls of the outbox; `worker` sends them, follows the chain into the index and
tells others. `api` is the door for programs, `ledger.page` the one for people, `peers` the way to other institutions.
"""
