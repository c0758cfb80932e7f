"""THE SEARCH: the problem that settings describe, and its phases, samplers, evaluators and engines."""
