"""Build Jaeger, as `make jaeger` does."""

import shutil
import sys

from testing import jaeger

if shutil.which("go") is None:
    sys.exit("Jaeger needs Go on PATH, of the version that testing/jaeger/go.mod names or newer")
jaeger.build()
print(jaeger.built())
