"""Tables of operators that are elementwise or free. If an operator is in no table, the count is a lower bound."""

from __future__ import annotations

__all__ = ["ELEMENTWISE", "FREE", "NORMS", "unqualified"]

_POINTWISE = """
    __and__ __lshift__ __or__ __rshift__ __xor__ _fused_dropout _prelu_kernel abs absolute acos acosh add addcdiv
    addcmul alpha_dropout angle asin asinh atan atan2 atanh bernoulli binary_cross_entropy
    binary_cross_entropy_with_logits bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift
    bitwise_xor ceil celu clamp clamp_max clamp_min clip complex conj_physical copysign cos cosh cross deg2rad
    dequantize digamma div divide elu eq equal erf erfc erfinv exp exp2 expm1 fake_quantize_per_channel_affine
    fake_quantize_per_channel_affine_cachemask fake_quantize_per_tensor_affine fake_quantize_per_tensor_affine_cachemask
    float_power floor floor_divide fmax fmin fmod frac frexp gcd ge gelu glu greater greater_equal gt hardshrink
    hardsigmoid hardswish hardtanh heaviside huber_loss hypot i0 igamma igammac isclose isfinite isinf isnan isneginf
    isposinf isreal kl_div l1_loss lcm ldexp le leaky_relu lerp less less_equal lgamma linalg_cross log log10 log1p log2
    log_sigmoid log_sigmoid_forward logaddexp logaddexp2 logical_and logical_not logical_or logical_xor logit lt
    masked_fill maximum minimum mish mse_loss mul multiply mvlgamma nan_to_num ne neg negative nextafter not_equal polar
    polygamma positive pow prelu quantize_per_channel quantize_per_tensor quantize_per_tensor_dynamic rad2deg reciprocal
    relu relu6 remainder round rrelu rrelu_with_noise rsqrt rsub selu sgn sigmoid sign signbit silu sin sinc sinh
    smooth_l1_loss soft_margin_loss softplus softshrink special_bessel_j0 special_bessel_j1 special_bessel_y0
    special_bessel_y1 special_entr special_erfcx special_expit special_i0e special_i1 special_i1e special_log_ndtr
    special_ndtr special_ndtri special_xlog1py sqrt square sub subtract tan tanh threshold trace true_divide trunc
    vander where xlogy
"""

_REDUCTIONS = """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _unique2 adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d all amax amin aminmax any argmax
    argmin argsort avg_pool1d avg_pool2d avg_pool3d bincount bucketize col2im count_nonzero cummax cummin cumprod cumsum
    cumulative_trapezoid diff dist embedding_renorm fractional_max_pool2d fractional_max_pool3d frobenius_norm gradient
    histc index_add index_reduce isin kthvalue linalg_norm linalg_vector_norm logcumsumexp logsumexp max max_pool1d
    max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices mean median min mode
    msort nanmean nanmedian nanquantile nansum nll_loss nll_loss2d nll_loss2d_forward nll_loss_forward nll_loss_nd norm
    pairwise_distance prod quantile scatter_add scatter_reduce searchsorted segment_reduce sort std std_mean sum
    sum_to_size topk trapezoid unfold_backward unique_consecutive unique_dim var var_mean
"""

_FREE = """
    Bool Float FloatImplicit Int IntImplicit ScalarImplicit Size __contains__ __getitem__ __is__ __isnot__ __not__
    _assert_async _assert_tensor_metadata _cast_Float _cast_Half _cast_Int _cast_Long _conj _local_scalar_dense
    _pack_padded_sequence _pad_packed_sequence _reshape_from_tensor _shape_as_tensor _to_copy _to_sparse _to_sparse_csr
    _unsafe_view _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d adjoint alias append
    arange argwhere as_strided as_strided_scatter as_tensor atleast_1d atleast_2d atleast_3d bartlett_window
    blackman_window block_diag broadcast_tensors broadcast_to can_cast cartesian_prod cat cauchy channel_shuffle chunk
    clone column_stack combinations concat concatenate conj constant_pad_nd contiguous copy crow_indices detach diag
    diag_embed diagflat diagonal diagonal_scatter dim dropout dsplit dstack embedding empty empty_like empty_permuted
    empty_strided expand expand_as expand_copy exponential eye feature_alpha_dropout feature_dropout fft_fftfreq
    fft_fftshift fft_ifftshift fft_rfftfreq fill fill_diagonal flatten flip fliplr flipud format full full_like gather
    geometric glu_jvp hamming_window hann_window hsplit hstack im2col imag index index_copy index_fill index_put
    index_select int_repr is_complex is_floating_point is_nonzero item kaiser_window len lift lift_fresh linspace
    log_normal logspace mH mT masked_scatter masked_select matrix_H max_unpool2d max_unpool3d meshgrid moveaxis movedim
    multinomial narrow narrow_copy native_channel_shuffle native_dropout new_empty new_empty_strided new_full new_ones
    new_zeros nonzero nonzero_numpy nonzero_static normal normal_functional numel numpy_T one_hot ones ones_like pad
    permute permute_copy pin_memory pixel_shuffle pixel_unshuffle poisson promote_types put q_scale q_zero_point rand
    rand_like randint randint_like randn randn_like random randperm range ravel real reflection_pad1d reflection_pad2d
    reflection_pad3d repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d requires_grad
    reshape reshape_as resize resolve_conj resolve_neg result_type roll rot90 scalar_tensor scatter select
    select_scatter set size slice slice_scatter split split_with_sizes squeeze stack stride swapaxes swapdims t take
    take_along_dim tensor tensor_split tile to to_dense to_sparse to_sparse_csr transpose tril tril_indices triu
    triu_indices type_as unbind unflatten unfold uniform unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze
    upsample_nearest1d upsample_nearest2d upsample_nearest3d view view_as view_as_complex view_as_real view_copy vsplit
    vstack zero zeros zeros_like
"""

_NORMALISATIONS = """
    _fused_rms_norm _log_softmax _masked_softmax _safe_softmax _softmax _weight_norm _weight_norm_interface batch_norm
    cross_entropy_loss cudnn_batch_norm group_norm instance_norm layer_norm log_softmax native_batch_norm
    native_group_norm native_layer_norm renorm rms_norm softmax
"""


def unqualified(kind: str) -> str:
    """Return a name without its namespace and without the `_` of an in-place operator: `aten::relu_` gives `relu`."""
    name = kind.rpartition("::")[2]
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


ELEMENTWISE = frozenset((_POINTWISE + _REDUCTIONS).split())
"""Operators that count 1 for each output element (pointwise) or 1 for each input element (reductions)."""

NORMS = frozenset(_NORMALISATIONS.split())
"""Operators that count 5 for each input element: normalisations and softmax."""

FREE = frozenset(_FREE.split())
"""Operators that count 0, because they do no arithmetic on activations: views, copies, gathers, fills, random draws."""
