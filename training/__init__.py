"""Training of models that ship with the product. Not in the wheel."""
