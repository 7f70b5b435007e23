"""Mistakes that people make in manifests: what the doctor has to say of each, and what a real cluster did with it."""

from dataclasses import dataclass

from kuberay.doctor.finding import ERROR, Severity
from kuberay.profiles import CPU, Profile
from testing.manifests import Break


@dataclass(frozen=True)
class Mistake:
    name: str
    rule: str
    """Number of the rule that finds it."""
    breaks: Break
    says: str
    """A part of its sentence."""
    severity: Severity = ERROR
    profile: Profile = CPU
    also: tuple[str, ...] = ()
    """Numbers of other rules that may find it too."""
    cluster: str = ""
    """Consequence in a real cluster, where it was tried: tests/kubernetes/test_mistakes.py."""
