"""HOW SURE: intervals, paired comparisons, fronts, hypervolume and effects. All functions work on arrays and tables."""
