"""Parts of a run that a real Ray meets by chance alone."""

from pathlib import Path

from sonograph.compare import plan
from sonograph.compare.inputs import Input
from sonograph.compare.pairs import Models, pairs
from sonograph.compare.plan import Asked, Checkpoint
from sonograph.compare.session import kept_last
from sonograph.compare.store import Store
from tests.sonograph.compare.fakes import Finder, measured


def test_a_result_that_was_kept_as_ctrl_c_came_counts(tmp_path: Path) -> None:
    candidates = plan.candidates("speech-to-text", ["tiny.en"], ["openai-whisper"], {})
    models = Models({candidates[0].label: Checkpoint("", 1)})
    works = {candidates[0].label: Finder(tmp_path)(candidates[0], "")}
    inputs = [Input(f"{number}.wav", Path(f"{number}.wav"), str(number)) for number in range(4)]
    found = pairs(candidates, inputs, models, works, {}, Asked(), "", 60).to_run
    added, last, failed, _ = (measured(key=one.key, input=one.input.name) for one in found)
    with Store(tmp_path) as store:
        for one in (added, last, measured(key=failed.key, error="it was killed"), measured(key="of another run")):
            store.keep(one)
        assert kept_last(found, [added], store) == [last]
