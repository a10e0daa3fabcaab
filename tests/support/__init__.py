"""What several tests build on: small servers and raw clients."""
