"""The drawing of a request's way is that of the present code."""

import importlib.util

from graphs.voice_to_image import VoiceToImage
from testing.service import ROOT


def test_the_drawing_is_that_of_the_code() -> None:
    spec = importlib.util.spec_from_file_location("one_request", ROOT / "docs" / "one_request.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.FILE.read_text(encoding="utf-8") == module.draw(VoiceToImage), "run: python docs/one_request.py"
    assert module.policies() == ["Rollout", "Deadline", "Ready", "Queue", "Retry", "Reachable"]
    assert list(module.declared(VoiceToImage)) == ["transcribe", "generate"]
