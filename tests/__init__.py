"""Sentences about what Sonograph does. Markers say what a test needs; without one it needs neither Ray nor Triton."""
