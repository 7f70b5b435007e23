"""Versions that images and manifests share; an image's tag names them."""

import importlib.metadata

RELEASE = importlib.metadata.version("sonograph")
"""Version of this project, from pyproject.toml."""
RAY = "2.60.0"
PYTHON = "3.12.3"
"""Ubuntu 24.04's, which NVIDIA's image is made of too: Ray refuses nodes whose patch versions differ."""
TRITON, TRITON_WHEEL = "26.07", "2.71.0"
"""NVIDIA's image, and the `tritonserver` package in it, which images/triton.lock has too."""
TAG = f"{RELEASE}-ray{RAY}-py{PYTHON}"
"""The doctor reads the versions of an image from its tag."""
