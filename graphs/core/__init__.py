"""Stages, queues, latency estimates, metrics and readiness: what a graph needs whatever carries its requests."""
