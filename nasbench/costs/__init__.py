"""What a model costs: parameters, multiply-adds, elementwise work, activations, peak memory."""

from nasbench.costs.formulas import register_formula
from nasbench.costs.macs import Count, count
from nasbench.costs.measuring import Cost, measure, peak_memory

__all__ = ["Cost", "Count", "count", "measure", "peak_memory", "register_formula"]
