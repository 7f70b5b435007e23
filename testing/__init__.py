"""Helpers that tests and benchmarks share: fakes, media, services, clusters. The wheel does not contain them."""
