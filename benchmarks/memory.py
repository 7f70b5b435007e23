"""What is kept: `python -m benchmarks.memory` compares each process's memory after 50 and after 500 requests.

It starts a service of its own as `make serve` does, and sends it the sample recordings, one denoising step each.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.measure import circumstances, recordings, rss_mib

PORT = 8766


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=50)
    parser.add_argument("--last", type=int, default=500)
    arguments = parser.parse_args()
    console = Console()
    command = [str(Path(sys.prefix) / "bin" / "sonograph"), "serve", "--port", str(PORT)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=120) as client:
            _wait(client, server)
            spoken = recordings(8)
            rss: dict[str, float] = {}
            for number in track(range(arguments.last), "Requests", console=console):
                client.post("/graph", files={"file": spoken[number % 8]}, data={"steps": "1"}).raise_for_status()
                if number + 1 == arguments.first:
                    rss = rss_mib(server.pid)
            table = Table("process", f"MiB after {arguments.first}", f"MiB after {arguments.last}", "ratio")
            for name, after in rss_mib(server.pid).items():
                before = rss.get(name, 0.0)
                table.add_row(name, f"{before:.1f}", f"{after:.1f}", f"{after / before:.3f}" if before else "new")
            console.print(table)
            console.print(circumstances())
    finally:
        server.terminate()
        server.wait(120)


def _wait(client: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise SystemExit("the service did not start")


if __name__ == "__main__":
    main()
