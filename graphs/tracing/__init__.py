"""Traces of requests: kept in the ingress, which decides at a request's end whether its trace is sent to a collector."""
