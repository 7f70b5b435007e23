"""The models: one folder each, with its engine, its Triton repository and its Serve class."""
