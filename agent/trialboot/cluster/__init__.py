"""The Kubernetes API, spoken with the kubelet's own credential."""
