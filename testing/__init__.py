"""What tests and benchmarks share: fakes, media, services, clusters; no part of the wheel."""
