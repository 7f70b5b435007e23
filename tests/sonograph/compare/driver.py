"""A run of `sonograph compare` with fake models, in a process that a test can kill.

python -m tests.sonograph.compare.driver '{"recordings": [...], "models": [...], "out": "..."}' FOLDER SLOW_S
"""

import json
import sys
from pathlib import Path

from sonograph.compare.session import Request, run
from tests.sonograph.compare.fakes import Finder


def main() -> None:
    given = json.loads(sys.argv[1])
    paths = {name: Path(given[name]) for name in ("out", "reference", "write") if name in given}
    recordings = tuple(map(Path, given["recordings"]))
    request = Request(**{**given, **paths, "recordings": recordings, "engines": ("openai-whisper",)})
    sys.exit(run(request, Finder(Path(sys.argv[2]), float(sys.argv[3]))))


if __name__ == "__main__":
    main()
