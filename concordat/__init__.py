"""The command line and the demo: the only place that knows every party."""
