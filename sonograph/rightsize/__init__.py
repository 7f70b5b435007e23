"""`sonograph rightsize`: what deployments, pods or compared models ask for, what they use, and what to ask for instead."""
