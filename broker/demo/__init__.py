"""The story told on real parts; not in the image."""
