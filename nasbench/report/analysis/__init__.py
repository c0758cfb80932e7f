"""What the evaluations of a run say: effects of modules and properties, controls, proxies, progress."""
