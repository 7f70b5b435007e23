"""Stable Diffusion of known cost."""
