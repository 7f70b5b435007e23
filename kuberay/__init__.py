"""The graph on Kubernetes: one description, the manifests rendered from it, and the doctor who reads manifests."""
