"""THE SEARCH: the problem that the settings describe, and the phases, samplers, evaluators and engines of a search."""
