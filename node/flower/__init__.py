"""Flower on a node: the bundle, the executor that runs its client, and the shim between Flower and the daemon."""
