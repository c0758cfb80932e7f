"""HOW SURE: intervals, paired comparisons, fronts, hypervolume and effects. Takes and returns arrays and tables."""
