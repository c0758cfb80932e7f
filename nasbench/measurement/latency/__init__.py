"""Latency relative to the bare backbone: the profiler, device profiles with their predictions, and the doctor."""
