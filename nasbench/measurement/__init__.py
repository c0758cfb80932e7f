"""WHAT IT COSTS AND DOES: count costs, measure latency, and measure the five properties (fingerprints)."""
