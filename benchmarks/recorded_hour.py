"""Metrics of a real service under a quiet load, which a test of the alerts repeats to an hour: `python -m benchmarks.recorded_hour`."""

import itertools
import json
import re
import tempfile
import time
from pathlib import Path

from benchmarks.services import sonograph
from kuberay.manifest.monitoring import monitoring
from kuberay.profiles import CPU
from testing import speech
from testing.prometheus import Prometheus, scraping
from testing.service import ROOT, Service

FILE = ROOT / "tests" / "kuberay" / "recorded_hour.json"
STEP_S, WARM_UP_S, RECORDED_S, EVERY_S = 30, 60, 240, 4
"""Time between two samples, of load before the first one and until the last one, and between the begins of two requests."""
LABELS = ("application", "deployment", "replica", "stage", "code", "le")
"""Labels that are kept: those of our own metrics and of Serve's."""
OURS = re.compile(r"\bray_(?:sonograph|serve)_\w+")


def load(service: Service, for_s: float) -> None:
    """Send one request after the other."""
    recordings = [(speech.HERE / f"{name}.ogg").read_bytes() for name in ("cat-slt", "boat-rms", "tree-slt")]
    end_s = time.monotonic() + for_s
    for number in itertools.count():
        begun_s = time.monotonic()
        if begun_s >= end_s:
            return
        service.draw(recordings[number % len(recordings)], seed=str(number))
        time.sleep(max(0.0, begun_s + EVERY_S - time.monotonic()))


def samples(prometheus: Prometheus, end_s: float) -> dict[str, list[float]]:
    """The series that a rule reads, by their names with their labels."""
    found: dict[str, list[float]] = {}
    for name in sorted(set(OURS.findall(str(monitoring(CPU))))):
        for series in prometheus.over(name, end_s - RECORDED_S, end_s, STEP_S):
            labels = {label: value for label, value in series["metric"].items() if label in LABELS}
            key = f"{name}{{{','.join(f'{label}="{value}"' for label, value in sorted(labels.items()))}}}"
            assert key not in found, f"{key} is that of two series: keep more labels"
            found[key] = [float(value) for _, value in series["values"]]
    return found


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        sonograph(Path(folder)) as service,
        scraping(service, Path(folder), 5) as prometheus,
    ):
        load(service, WARM_UP_S + RECORDED_S)
        found = samples(prometheus, time.time())
    whole = {name: values for name, values in found.items() if len(values) == RECORDED_S // STEP_S + 1}
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(values)}" for name, values in whole.items())
    FILE.write_text(f"{{\n{lines}\n}}\n")
    print(f"{FILE}: {len(whole)} series; {sorted(found.keys() - whole.keys())} began later")


if __name__ == "__main__":
    main()
