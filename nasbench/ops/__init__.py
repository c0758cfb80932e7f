"""Layers and tensor helpers that several modules share. Each file is imported by its own name."""
