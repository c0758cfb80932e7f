"""WHAT IT IS WORTH: the training loop that all tasks share, its parts, and zero-cost proxies."""
