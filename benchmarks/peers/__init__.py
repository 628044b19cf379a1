"""The same task by this project and by public peers that install here (``python -m benchmarks.peers``)."""
