"""Rotation: new upstream keys made, proved, promoted; old ones retired (DESIGN section 8)."""
