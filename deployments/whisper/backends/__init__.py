"""The libraries that compute Whisper: torch and CTranslate2."""
