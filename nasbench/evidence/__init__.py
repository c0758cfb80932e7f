"""HOW SURE: intervals, paired comparisons, fronts, hypervolume and effects. Arrays and tables in, the same out."""
