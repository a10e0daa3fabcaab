"""Kubernetes: who leads, by a Lease; Events on the pod. The only package that knows its client."""
