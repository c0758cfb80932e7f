"""Latency relative to the bare backbone: the profiler, device profiles with predictions, and the profiler's test."""
