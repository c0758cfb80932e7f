"""The costs of a model: parameters, multiply-adds, elementwise work, activations, peak memory."""

from nasbench.measurement.costs.formulas import register_formula
from nasbench.measurement.costs.macs import Count, count
from nasbench.measurement.costs.model_costs import Cost, measure, peak_memory

__all__ = ["Cost", "Count", "count", "measure", "peak_memory", "register_formula"]
