"""The engines on a GPU, without a server: `python -m benchmarks.gpu`.

On a machine with a network: `python -m benchmarks.gpu --pack packages` puts what the engines import into a folder. On the machine with the
GPU, which needs Python 3.12, torch with CUDA, numpy and safetensors: `python -m benchmarks.gpu --packages packages`. A run that was
cut off goes on where it ended. `--tiny` runs each row on a CPU with tiny models.
"""

import argparse
import sys
from pathlib import Path

PARTS = ("whisper", "turbo", "sd15", "sd-turbo", "sdxl")
RESULTS = Path(__file__).parents[1] / "results" / "gpu"
PART_S = 230.0
"""Four minutes, less the time to load torch."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--pack", type=Path, metavar="FOLDER", help="fill a folder with the packages that the engines import, and end"
    )
    parser.add_argument(
        "--packages", type=Path, metavar="FOLDER", help="a folder that --pack filled, where they are not installed"
    )
    parser.add_argument("--only", metavar="PARTS", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--tiny", action="store_true", help="tiny models on the CPU: shows that each row works, and no figure")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help="folder of the results (%(default)s)")
    parser.add_argument(
        "--part-seconds", type=float, default=PART_S, help="time of a part; what does not fit is left for the next run"
    )
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"--only names {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    try:
        if arguments.pack:
            from benchmarks.gpu.pack import pack

            print(f"{arguments.pack}: {pack(arguments.pack):,} bytes")
            return
        if arguments.packages:
            from benchmarks.gpu.pack import install

            install(arguments.packages)
        from benchmarks.gpu.run import run  # what it imports may have been installed just now

        failed = run(names, arguments.tiny, arguments.out, arguments.part_seconds)
    except ValueError as error:
        raise SystemExit(f"{parser.prog}: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
