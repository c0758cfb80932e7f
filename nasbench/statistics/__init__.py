"""Statistics on plain numbers: fronts and how sure they are, hypervolume and its reference, regression."""
