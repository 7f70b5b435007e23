"""The HTTP edge of every graph: uploads, parameters, responses, errors, limits."""
