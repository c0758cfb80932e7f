"""Latency of plans part by part: device profiles, prediction from them, and where a plan's time goes.

They lie above `nasbench.costs`, which times models and knows nothing of plans, slots and spaces.
"""
