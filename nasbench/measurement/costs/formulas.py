"""Formulas for the operators that fvcore or FlopCounterMode does not count or counts wrongly. Both engines use them.

A formula gets shapes, not tensors. A tensor is passed as a tuple of sizes, and a list of tensors as a list of such
tuples. Any other argument is passed as its value, or as None if a traced value is not a constant.

A name is that of the operator's schema, "namespace::name". The same entry is used for fvcore's traced graph and for
torch's dispatcher.
"""

from __future__ import annotations

import re

from nasbench.errors import InputError
from nasbench.measurement.costs import operators as operators

__all__ = ["COMPLEX_FACTOR", "ELEMENTWISE_FORMULAS", "MAC_FORMULAS", "REGISTERED", "Formula", "register_formula"]

Formula = operators.Formula
"""A function `formula(inputs, outputs) -> count`. The inputs are in the order of the operator's schema."""

COMPLEX_FACTOR = 4
"""Number of real multiply-adds in one complex multiply-add."""

_NAME = re.compile(r"([A-Za-z_]\w*::)?[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")


def _both(name: str) -> tuple[str, str]:
    """Return the names of an operator and of its in-place form."""
    return f"aten::{name}", f"aten::{name}_"


_BAGS = ("aten::embedding_bag", "aten::_embedding_bag", "aten::_embedding_bag_forward_only")
_QUANTISED_LINEAR = [
    f"quantized::linear{kind}"
    for kind in (
        *("", "_relu", "_leaky_relu", "_tanh", "_dynamic", "_relu_dynamic", "_dynamic_fp16", "_relu_dynamic_fp16"),
        *("_with_input_q_dq_qweight_dq_output_fp32", "_with_input_q_dq_qweight_dq_relu_output_fp32"),
    )
]
_QUANTISED_CONVOLUTIONS = [f"quantized::conv{d}d{kind}" for d in (1, 2, 3) for kind in ("", "_relu", "_dynamic")] + [
    "quantized::conv2d_add",
    "quantized::conv2d_add_relu",
]
_QUANTISED_TRANSPOSED = [f"quantized::conv_transpose{d}d{kind}" for d in (1, 2, 3) for kind in ("", "_dynamic")]

MAC_FORMULAS: dict[str, Formula] = {
    "aten::linear": operators.matmul,
    "aten::matmul": operators.matmul,
    "aten::_int_mm": operators.matmul,
    "aten::_grouped_mm": operators.grouped_matmul,
    "aten::_scaled_grouped_mm": operators.grouped_matmul,
    "aten::_weight_int4pack_mm": operators.last_of_first,
    "aten::_weight_int8pack_mm": operators.last_of_first,
    "aten::linalg_matmul": operators.matmul,
    "aten::mv": operators.matmul,
    "aten::dot": operators.matmul,
    "aten::vdot": operators.matmul,
    **dict.fromkeys(_both("addmv"), operators.added_product),
    **dict.fromkeys(_both("baddbmm"), operators.added_product),
    **dict.fromkeys(_both("addbmm"), operators.batched_sum),
    "aten::addmm_": operators.added_product,
    "aten::_addmm_activation": operators.added_product,
    **dict.fromkeys(_both("addr"), operators.outer),
    "aten::outer": operators.outer,
    "aten::ger": operators.outer,
    "aten::kron": operators.outer,
    "aten::cov": operators.covariance,
    "aten::corrcoef": operators.covariance,
    "aten::tensordot": operators.tensordot,
    "aten::inner": operators.inner,
    "aten::linalg_vecdot": operators.broadcast_dot,
    "aten::cosine_similarity": operators.broadcast_dot,
    "aten::linalg_multi_dot": operators.multi_dot,
    "aten::chain_matmul": operators.multi_dot,
    "aten::linalg_matrix_power": operators.matrix_power,
    "aten::matrix_power": operators.matrix_power,
    "aten::einsum": operators.einsum,
    "aten::_convolution_mode": operators.convolution_mode,
    "aten::conv_tbc": operators.convolution_tbc,
    **dict.fromkeys(_BAGS, operators.weighted_bags),
    "aten::scaled_dot_product_attention": operators.attention,
    "aten::lstm": operators.recurrent,
    "aten::gru": operators.recurrent,
    "aten::rnn_tanh": operators.recurrent,
    "aten::rnn_relu": operators.recurrent,
    "aten::mkldnn_rnn_layer": operators.recurrent_layer,
    "aten::_cudnn_rnn": operators.recurrent_layer,
    "aten::bilinear": operators.bilinear,
    "aten::_trilinear": operators.trilinear,
    "aten::cdist": operators.distances,
    "aten::_cdist_forward": operators.distances,
    "aten::_euclidean_dist": operators.distances,
    "aten::pdist": operators.pair_distances,
    "aten::_pdist_forward": operators.pair_distances,
    "aten::affine_grid_generator": operators.affine_grid,
    "aten::grid_sampler": operators.grid_sample,
    "aten::grid_sampler_2d": operators.grid_sample,
    "aten::grid_sampler_3d": operators.grid_sample,
    "aten::upsample_linear1d": operators.weighted_neighbours(2),
    "aten::upsample_bilinear2d": operators.weighted_neighbours(4),
    "aten::upsample_trilinear3d": operators.weighted_neighbours(8),
    "aten::upsample_bicubic2d": operators.weighted_neighbours(16),
    "aten::_upsample_bilinear2d_aa": operators.antialiased(2),
    "aten::_upsample_bicubic2d_aa": operators.antialiased(4),
    "aten::_upsample_lanczos2d_aa": operators.antialiased(6),
    "torchvision::deform_conv2d": operators.deformable,
    "torchvision::roi_align": operators.roi_align,
    "torchvision::ps_roi_align": operators.roi_align,
    **dict.fromkeys(_QUANTISED_LINEAR, operators.last_of_first),
    **dict.fromkeys(_QUANTISED_CONVOLUTIONS, operators.packed_convolution),
    **dict.fromkeys(_QUANTISED_TRANSPOSED, operators.packed_transposed),
}
"""Number of multiply-adds of one call. For convolution, addmm, bmm and mm, both engines have own formulas."""

_FFT = [f"aten::fft_{kind}fft{n}" for kind in ("", "i", "ir", "h") for n in ("", "2", "n")]
_FFT_OF_REAL = [f"aten::fft_{kind}fft{n}" for kind in ("r", "ih") for n in ("", "2", "n")]

ELEMENTWISE_FORMULAS: dict[str, Formula] = {
    "aten::scaled_dot_product_attention": lambda inputs, outputs: 5 * operators.scores(inputs),
    "aten::lstm": operators.recurrent_gates(4, 13),
    "aten::gru": operators.recurrent_gates(3, 10),
    "aten::rnn_tanh": operators.recurrent_gates(1, 2),
    "aten::rnn_relu": operators.recurrent_gates(1, 2),
    "torchvision::deform_conv2d": operators.deformable_mask,
    "torchvision::nms": operators.suppressed,
    "torchvision::roi_pool": operators.one_per_output,
    "torchvision::ps_roi_pool": operators.one_per_output,
    **dict.fromkeys(_BAGS, operators.plain_bags),
    "aten::stft": operators.windowed_transform,
    "aten::istft": operators.inverse_windowed_transform,
    **dict.fromkeys(_FFT, operators.transform),
    **dict.fromkeys(_FFT_OF_REAL, operators.transform_of_real),
    **dict.fromkeys(("aten::_fft_c2c", "aten::_fft_r2c", "aten::_fft_c2r"), operators.transform_kernel),
}
"""Number of elementwise operations of one call, for operators that do not need exactly one for each element."""

REGISTERED: set[str] = set()
"""Names that `register_formula` added."""

_generation = 0


def generation() -> int:
    """Return the number of registrations so far. A count that was stored under a smaller number is out of date."""
    return _generation


def register_formula(operator: str, macs: Formula | None = None, *, elementwise_flops: Formula | None = None) -> None:
    """Register the cost of a custom operator in both counting engines.

    Without a formula, the count of a model that calls the operator is a lower bound.

    Args:
        operator: The operator's schema name, "namespace::name". For a `torch.autograd.Function` it is the class name
            ("MyFunction"). For a `torch.jit.script` function it is the function's name.
        macs: Function `macs(inputs, outputs) -> int` that returns the number of multiply-adds of one call. `inputs` has
            the arguments in the order of the operator's schema. A tensor is passed as its shape (a tuple of ints), a
            list of tensors as a list of shapes, and any other value unchanged. `outputs` is the list of output shapes.
        elementwise_flops: Function of the same form for the number of elementwise operations. None means 0 operations.

    Raises:
        InputError: If `operator` does not have the form of a name, if no formula is given, or if one is no function.

    Example:
        >>> import math
        >>> from nasbench.measurement import costs
        >>> costs.register_formula("mylib::scan", macs=lambda inputs, outputs: math.prod(inputs[0]) * inputs[1][-1])
    """
    if not isinstance(operator, str) or not _NAME.match(operator):
        raise InputError(f"{operator!r} is not an operator name; write 'namespace::name', such as 'mylib::scan'")
    if macs is None and elementwise_flops is None:
        raise InputError(f"no formula given for {operator}; pass macs=, elementwise_flops=, or both")
    for argument, formula in (("macs", macs), ("elementwise_flops", elementwise_flops)):
        if formula is not None and not callable(formula):
            raise InputError(f"{argument} of {operator} must be a function of (inputs, outputs), got {formula!r:.80}")
    global _generation  # invalidates the cached counts of `inferred_shapes`
    _generation += 1
    MAC_FORMULAS[operator] = macs or (lambda inputs, outputs: 0)
    # Both tables get an entry. So if only one of the two formulas is given, the other count is 0 and not unknown.
    ELEMENTWISE_FORMULAS[operator] = elementwise_flops or (lambda inputs, outputs: 0)
    REGISTERED.add(operator)
