"""Layers and tensor helpers that several modules share. Import each file by its own name."""
