"""Training of models that ship with the product; no part of the wheel."""
