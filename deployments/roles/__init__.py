"""Requests and results of each role, one module a role: any model of a role can take another one's place in a graph."""
