"""The ingress's log: its lines, where they go, and its settings."""
