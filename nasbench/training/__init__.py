"""WHAT IT IS WORTH: the one training loop of all tasks, its parts, and zero-cost proxies."""
