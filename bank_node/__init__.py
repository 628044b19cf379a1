"""A bank's side of the shared model: its columns, its labels, its local training."""
