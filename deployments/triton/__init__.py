"""Triton in this process: the server, its metrics, and the side of its Python stub."""
