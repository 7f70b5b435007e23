"""Tests, each named by a sentence about Sonograph. Markers name what a test needs; without one it needs neither Ray nor Triton."""

from hypothesis import settings

settings.register_profile("sonograph", deadline=None, derandomize=True)
settings.load_profile("sonograph")
