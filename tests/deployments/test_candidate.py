"""The application of one model alone."""

import pytest
from pydantic import ValidationError

from deployments.candidate import CandidateSettings, app
from deployments.model_spec import specs


def test_the_application_is_the_models_deployment_alone() -> None:
    bound = app(CandidateSettings(model="whisper", settings={"model": "base.en", "max_batch": 2}))._bound_deployment
    assert bound.name == "whisper"
    (settings,) = bound.init_args
    assert (settings.model, settings.max_batch) == ("base.en", 2)
    assert bound.max_ongoing_requests > 2


@pytest.mark.parametrize(
    ("model", "settings", "sentence"),
    [
        ("wisper", {}, f"model must be one of {', '.join(specs())}, and not wisper"),
        ("whisper", {"max_batch": 0}, "whisper.max_batch: Input should be greater than or equal to 1"),
        ("whisper", {"maxbatch": 1}, "whisper.maxbatch: there is no such key; did you mean max_batch?"),
    ],
)
def test_wrong_settings_are_refused_by_name(model: str, settings: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        CandidateSettings(model=model, settings=settings)
