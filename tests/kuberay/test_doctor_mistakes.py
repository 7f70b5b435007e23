"""The doctor names each mistake of the tables in tests/kuberay/mistakes in a sentence, and takes no other fault for granted."""

import importlib
import pkgutil

import pytest

from kuberay.doctor.finding import ERROR
from testing.manifests import Manifests
from tests.kuberay import mistakes
from tests.kuberay.mistakes import Mistake

pytestmark = pytest.mark.slow  # half a minute
MODULES = [importlib.import_module(f"{mistakes.__name__}.{one.name}") for one in pkgutil.iter_modules(mistakes.__path__)]
ALL: list[Mistake] = [one for module in MODULES for one in module.MISTAKES]


@pytest.mark.parametrize("mistake", ALL, ids=lambda one: one.name)
def test_a_mistake_is_named(mistake: Mistake) -> None:
    manifests = Manifests(mistake.profile)
    mistake.breaks(manifests)
    found = manifests.findings()
    listed = [str(finding) for finding in found]
    own = [finding for finding in found if finding.number == mistake.rule]
    assert any(mistake.says in finding.sentence and finding.severity is mistake.severity for finding in own), listed
    others = {finding.number for finding in found if finding.severity is ERROR} - {mistake.rule}
    assert others <= set(mistake.also), listed


def test_no_mistake_has_the_name_of_another() -> None:
    names = [one.name for one in ALL]
    assert sorted(set(names)) == sorted(names)
