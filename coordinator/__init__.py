"""The consortium's coordinator: registry, job queue, Flower server, model registry."""
