"""A long run of mixed requests and deaths: `python -m benchmarks.soak`."""
