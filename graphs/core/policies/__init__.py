"""Policies of a stage's calls, one file each. A stage runs them in order, like middleware: each takes a call and what comes next."""
