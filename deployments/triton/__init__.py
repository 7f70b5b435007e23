"""Triton in this process: the server, its metrics, and the code that its Python stub runs."""
