"""Latency beside the bare backbone: the profiler, device profiles and the predictions made from them, the doctor."""
