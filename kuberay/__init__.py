"""The service on Kubernetes: profiles, the manifests rendered from them, and the doctor that examines manifests."""
