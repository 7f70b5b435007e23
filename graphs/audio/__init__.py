"""Recordings: decoding, and detection of speech."""
