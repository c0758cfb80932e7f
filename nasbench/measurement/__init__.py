"""WHAT IT COSTS AND DOES: costs counted, latency measured, the five properties fingerprinted."""
