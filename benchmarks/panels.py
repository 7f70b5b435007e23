"""Pictures of the dashboards' panels for the docs: `python -m benchmarks.panels`.

They show what a real Prometheus answers to the queries of docs/dashboards: by default one that scrapes the service under load, with
requests that are refused, clients that disconnect, and a burst.
"""

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

import httpx
from PIL import Image

from benchmarks import load, measure
from benchmarks.dashboard import draw
from benchmarks.services import sonograph
from testing.prometheus import Prometheus, scraping
from testing.service import ROOT, Service

FOLDER = ROOT / "docs" / "dashboards"
DASHBOARDS = ["service", "stages", "ray"]
"""Names of the dashboards of which the docs have a picture."""
PER_S, BURST, LEAVES_S = 0.6, 40, 2.5
"""The load: requests per second, those of a burst, and the time after which a client that disconnects does."""
WARM_UP_MIN = 3
"""Minutes of load before those that are drawn: a rate is over five."""


async def _load(service: Service, minutes: float) -> None:
    """Requests by a Poisson process, some of which are refused or cancelled, and twice more at once than there are places.

    The first time is before those minutes that are drawn: a counter of a client's errors appears with its first increase, which no rate
    sees.
    """
    recordings = measure.recordings(4)
    bursts_min = (WARM_UP_MIN / 2, WARM_UP_MIN + minutes / 2)
    due_s = sorted(
        [*load.arrivals(PER_S, (WARM_UP_MIN + minutes) * 60, seed=1), *(at * 60 for at in bursts_min for _ in range(BURST))]
    )

    async def send(number: int) -> int:
        leaves, refused = number % 6 == 2, number % 9 == 4
        fields = {"steps": "150"} if leaves else {"language": "fr"} if refused else {}
        try:
            async with asyncio.timeout(LEAVES_S if leaves else load.CLIENT_S):
                files = {"file": recordings[number % len(recordings)]}
                return (await client.post("/graph", files=files, data=fields)).status_code
        except (TimeoutError, httpx.TransportError):
            return load.NO_ANSWER

    async with load.client(service.url) as client:
        answers = await load.open_loop(send, due_s)
    print({status: sum(answer.status == status for answer in answers) for status in {answer.status for answer in answers}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dashboards", nargs="*", default=DASHBOARDS, help="names of docs/dashboards")
    parser.add_argument("--prometheus", metavar="URL", help="a Prometheus that runs, instead of a service of its own under load")
    parser.add_argument("--minutes", type=int, default=5, help="time that is drawn")
    arguments = parser.parse_args()

    def write(prometheus: Prometheus) -> None:
        end_s = time.time() // 60 * 60
        for name in arguments.dashboards:
            model = json.loads((FOLDER / f"{name}.json").read_text())
            path = FOLDER.parent / f"dashboard-{name}.webp"
            image = draw(model, prometheus, end_s - arguments.minutes * 60, end_s)
            few = image.quantize(method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).convert("RGB")
            few.save(path, lossless=True, method=6)  # of 256 colours: smaller and sharper than a lossy one
            print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KiB")

    if arguments.prometheus:
        write(Prometheus(arguments.prometheus))
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        sonograph(Path(folder)) as service,
        scraping(service, Path(folder), interval_s=5) as prometheus,
    ):
        asyncio.run(_load(service, arguments.minutes))
        write(prometheus)


if __name__ == "__main__":
    main()
