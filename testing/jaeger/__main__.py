"""Build Jaeger, as `make jaeger` does."""

from testing import jaeger

jaeger.build()
print(jaeger.built())
