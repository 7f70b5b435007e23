"""The rooms: one folder a model, each with its engine, its Triton repository and its Ray class."""
