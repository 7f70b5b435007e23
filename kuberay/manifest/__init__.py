"""The manifests, one module for each file that is written."""
