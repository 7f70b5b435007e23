"""Speech to text: Whisper, computed by openai-whisper's network in torch or by CTranslate2."""
