"""The doctor: reads manifests, rendered or edited by hand, and names in sentences what would go wrong. Needs no network."""
