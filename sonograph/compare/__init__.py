"""`sonograph compare`: models over many recordings or prompts, as tasks of Ray's, measured and compared."""
