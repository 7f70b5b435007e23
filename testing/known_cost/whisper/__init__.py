"""Whisper of known cost."""
