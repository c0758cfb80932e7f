"""THE SEARCH: from settings to a problem, its phases, samplers, evaluators and engines."""
