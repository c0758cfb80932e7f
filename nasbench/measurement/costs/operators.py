"""The multiply-adds and elementwise operations of single operators, computed from shapes.

Most functions here are formulas, `formula(inputs, outputs) -> count` (see `formulas.Formula`), or return a formula. The
tables in `formulas` say which operator has which formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

Shape = tuple[int, ...]
Formula = Callable[[Sequence[Any], Sequence[Shape]], int]


def matmul(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count `(..., n, k) @ (..., k, m)`, where either side can be broadcast or 1-D."""
    a, b = inputs[0], inputs[1]
    return math.prod(outputs[0]) * (b[0] if len(b) == 1 else a[-1])


def batched_sum(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count `addbmm(c, (b, n, k), (b, k, m))`, which sums the products of all items."""
    return math.prod(inputs[1]) * inputs[2][-1]


def added_product(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count `c + a @ b`: addmm, baddbmm, addmv."""
    return matmul(inputs[1:3], outputs)


def tensordot(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count a tensordot: each output element sums over the contracted dimensions."""
    return math.prod(outputs[0]) * math.prod(inputs[0][d] for d in inputs[2])


def inner(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count an inner product over the last dimension of both operands."""
    return math.prod(outputs[0]) * (inputs[0][-1] if inputs[0] else 1)


def broadcast_dot(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count a broadcast elementwise product that is summed over one dimension: vecdot, cosine_similarity."""
    a, b = inputs[0], inputs[1]
    return math.prod(_broadcast(a, b))


def multi_dot(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count a chain of matrix products in the cheapest order, which `linalg.multi_dot` uses.

    The order comes from the standard dynamic programme for matrix chains.
    """
    shapes = inputs[0]
    first = 1 if len(shapes[0]) == 1 else shapes[0][0]
    sizes = [first, *(shape[0] for shape in shapes[1:]), 1 if len(shapes[-1]) == 1 else shapes[-1][-1]]
    best: dict[tuple[int, int], int] = {(i, i): 0 for i in range(len(shapes))}
    for span in range(1, len(shapes)):
        for i in range(len(shapes) - span):
            j = i + span
            best[i, j] = min(best[i, k] + best[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j))
    return best[0, len(shapes) - 1]


def matrix_power(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count A^n with repeated squaring. A negative n adds an inversion, which does not count as a contraction."""
    exponent = int(inputs[1])
    # There is one squaring for each bit after the first, and one product for each further bit that is set.
    products = max(0, exponent.bit_length() - 1 + exponent.bit_count() - 1)
    return products * math.prod(outputs[0]) * outputs[0][-1]


def einsum(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count an einsum pair by pair, in the order in which torch executes it: by the given path, or from left to right.

    The cost of a pair of operands is the product of the sizes of all their indices. An index does not count if only one
    operand has it and it is not needed later, because torch then first sums over it in that operand.
    """
    left, arrow, written = inputs[0].replace(" ", "").partition("->")
    terms, sizes = _einsum_terms(left.split(","), inputs[1])
    letters = "".join(terms)
    # Without an arrow, the result has the indices that occur once, as in numpy. Digits replace "...".
    result = {c for c in letters if c.isdigit() or (c in written if arrow else letters.count(c) == 1)}
    path = list(inputs[2]) if len(inputs) > 2 and inputs[2] else [0, 1] * (len(terms) - 1)
    total, operands = 0, [set(term) for term in terms]
    for step in range(0, len(path), 2):
        i, j = path[step], path[step + 1]
        a, b = operands[i], operands[j]
        rest = [operand for k, operand in enumerate(operands) if k not in (i, j)]
        needed_later = result.union(*rest)
        total += math.prod(sizes[c] for c in (a & b) | ((a | b) & needed_later))
        operands = _contracted(operands, i, j, (a | b) & needed_later, first=len(inputs) <= 2 or not inputs[2])
    return total


def _contracted(operands: list[set[str]], i: int, j: int, product: set[str], *, first: bool) -> list[set[str]]:
    """Return the operands after i and j were joined. Without a path torch puts the result first, with a path last."""
    rest = [operand for k, operand in enumerate(operands) if k not in (i, j)]
    return [product, *rest] if first else [*rest, product]


def _einsum_terms(terms: list[str], shapes: Sequence[Shape]) -> tuple[list[str], dict[str, int]]:
    """Replace "..." by digits. They are counted from the right, because broadcasting aligns shapes at the right.

    Returns:
        The terms, and the size of each index. If an index has size 1 in one operand, its size in the other counts.
    """
    spelled: list[str] = []
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        extra = len(shape) - len(term.replace("...", ""))
        term = term.replace("...", "".join(str(extra - 1 - k) for k in range(extra)))
        spelled.append(term)
        for index, size in zip(term, shape, strict=True):
            sizes[index] = max(size, sizes.get(index, 1))
    return spelled, sizes


def convolution_mode(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count a convolution whose padding is given by name ("same"). Each output element sums over one filter."""
    return math.prod(outputs[0]) * math.prod(inputs[1][1:])


def attention(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count scaled dot-product attention: q·k plus a·v. A mask does not reduce the count."""
    return scores(inputs) * (inputs[0][-1] + inputs[2][-1])


def scores(inputs: Sequence[Any]) -> int:
    """Return the number of elements of the attention matrix."""
    q, k = inputs[0], inputs[1]
    # With grouped heads, the keys have fewer heads than the queries, so the leading sizes cannot always be broadcast.
    return math.prod(_broadcast(q[:-2], k[:-2]) if len(q) < 4 else q[:-2]) * q[-2] * k[-2]


def recurrent(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count an RNN, GRU or LSTM, including its projections. Each step of each item uses every weight matrix once."""
    steps, weights = _recurrent(inputs)
    return steps * sum(math.prod(w) for w in weights)


def recurrent_layer(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count one recurrent layer of a backend: oneDNN's (input, w_ih, w_hh, ...) or cuDNN's (input, [weights], ...)."""
    weights = inputs[1] if isinstance(inputs[1], list) else inputs[1:3]
    return math.prod(inputs[0][:-1]) * sum(math.prod(w) for w in weights if len(w) == 2)


def _recurrent(inputs: Sequence[Any]) -> tuple[int, list[Shape]]:
    """Return the number of steps times the number of items, and the shapes of the weight matrices.

    A packed sequence has another schema: the second argument is `batch_sizes`, followed by hx and the parameters.
    """
    packed = not isinstance(inputs[1], list) and isinstance(inputs[3], list)
    parameters = inputs[3] if packed else inputs[2]
    return math.prod(inputs[0][:-1]), [p for p in parameters if len(p) == 2]


def recurrent_gates(gates: int, operations: int) -> Formula:
    """Return the formula of a recurrent cell's elementwise work.

    Args:
        gates: Number of gates of the cell: 4 for an LSTM, 3 for a GRU, 1 for a plain RNN.
        operations: Number of operations for each step, each item and each hidden unit.
    """

    def formula(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
        steps, weights = _recurrent(inputs)
        # A cell has two matrices with a row for each gate of each hidden unit. The matrix of a projection has fewer
        # rows.
        cells = sum(w[0] == weights[0][0] for w in weights) // 2
        return steps * cells * (weights[0][0] // gates) * operations

    return formula


def bilinear(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count `y_o = x1 · W_o · x2`: the number of rows times the elements of W."""
    return math.prod(inputs[0][:-1]) * math.prod(inputs[2])


def trilinear(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count `bilinear` in the form that it has below the dispatcher, where W is the second argument."""
    return math.prod(inputs[0][:-1]) * math.prod(inputs[1])


def distances(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count cdist: one multiply-add for each pair of points and each coordinate."""
    return math.prod(outputs[0]) * inputs[0][-1]


def grid_sample(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count grid sampling. Multiply-adds of an output element: bilinear 4 (8 in a volume), nearest 0, bicubic 16."""
    return math.prod(outputs[0]) * {0: 2 ** (len(inputs[0]) - 2), 1: 0, 2: 16}[inputs[2]]


def weighted_neighbours(neighbours: int) -> Formula:
    """Return the formula of an interpolation whose output elements are weighted sums of `neighbours` inputs."""
    return lambda inputs, outputs: math.prod(outputs[0]) * neighbours


def antialiased(reach: int) -> Formula:
    """Return the formula of antialiased resizing in two passes, along each row and then along each column.

    Args:
        reach: Number of filter taps along a dimension that does not shrink. If a dimension shrinks, the filter is
            longer by the same factor.
    """

    def formula(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
        before, after = inputs[0][-2:], outputs[0][-2:]
        taps = [math.ceil(reach * max(1.0, b / a)) for b, a in zip(before, after, strict=True)]
        maps = math.prod(outputs[0][:-2])
        return maps * (before[0] * after[1] * taps[1] + after[0] * after[1] * taps[0])

    return formula


def deformable(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count deform_conv2d: a convolution, whose every input is a bilinear sample of 4 multiply-adds."""
    return math.prod(outputs[0]) * math.prod(inputs[1][1:]) + 4 * _samples(inputs, outputs)


def deformable_mask(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count the mask of deform_conv2d, if it has one: one product for each sample."""
    return _samples(inputs, outputs) if inputs[13] else 0


def _samples(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Return the number of samples: each output position takes one from each channel for each tap of the kernel."""
    image, weight, made = inputs[0], inputs[1], outputs[0]
    return image[0] * image[1] * math.prod(weight[2:]) * math.prod(made[2:])


def outer(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count an outer product, as einsum does: one multiply-add for each output element."""
    return math.prod(outputs[0])


def convolution_tbc(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count conv_tbc. Its weight is (taps, channels in, channels out)."""
    return math.prod(outputs[0]) * math.prod(inputs[1][:2])


def roi_align(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count RoI align: each output element is the mean of a square of bilinear samples of 4 multiply-adds.

    Raises:
        ValueError: If the number of samples is not given. It then depends on the sizes of the boxes.
    """
    samples = inputs[5]
    if samples is None or samples <= 0:
        raise ValueError("the number of samples depends on the boxes")
    return math.prod(outputs[0]) * samples**2 * 4


def one_per_output(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count one operation for each output element."""
    return math.prod(outputs[0])


def suppressed(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count non-maximum suppression: 13 operations for each pair of boxes, as if no box suppresses another."""
    boxes = inputs[0][0]
    return 13 * boxes * (boxes - 1) // 2


def weighted_bags(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count embedding_bag with a weight for each index: one multiply-add for each number that is looked up."""
    weighted = len(inputs) > 6 and inputs[6] is not None
    return math.prod(inputs[1]) * inputs[0][1] if weighted else 0


def plain_bags(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count embedding_bag without weights: one operation for each number that is looked up."""
    return 0 if weighted_bags(inputs, outputs) else math.prod(inputs[1]) * inputs[0][1]


def affine_grid(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count affine_grid: each coordinate is a row of theta times a position (x, y, 1)."""
    return math.prod(outputs[0]) * inputs[0][-1]


def covariance(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count cov and corrcoef of variables in rows: the product of the centred data with its transpose."""
    return math.prod(outputs[0]) * (inputs[0][-1] if inputs[0] else 1)


def pair_distances(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count pdist: one multiply-add for each pair of rows and each coordinate, as in cdist."""
    return math.prod(outputs[0]) * inputs[0][-1]


def last_of_first(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count a linear layer whose weight is packed: each output element sums over the last dimension of the input."""
    return math.prod(outputs[0]) * inputs[0][-1]


def packed_convolution(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count a quantised convolution. Only its packed parameters know the shape of the weight."""
    weight = next(value for value in inputs if hasattr(value, "unpack")).unpack()[0].shape
    return math.prod(outputs[0]) * math.prod(weight[1:])


def packed_transposed(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count a quantised transposed convolution: each input element is multiplied by one filter."""
    weight = next(value for value in inputs if hasattr(value, "unpack")).unpack()[0].shape
    return math.prod(inputs[0]) * math.prod(weight[1:])


def grouped_matmul(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count products of groups of rows, or sums over groups of columns if both operands are 2-D."""
    a, b = inputs[0], inputs[1]
    groups = outputs[0][0] if len(a) == len(b) == 2 else 1
    return math.prod(outputs[0]) * a[-1] // groups


def transform(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count an FFT: 5·N·log2 N real operations for a transform of N points. Schema: (self, n or s, dim, norm).

    The points are those of the output. The input is cut or padded to them.
    """
    dims = _transformed(inputs)
    return _transform(inputs[0], dims, [outputs[0][d] for d in dims])


def transform_of_real(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count an FFT of real numbers, whose output is half a spectrum along the last dimension: N//2 + 1 points."""
    dims = _transformed(inputs)
    last = dims[-1]
    asked = inputs[1][-1] if isinstance(inputs[1], list | tuple) else inputs[1]
    if (
        asked is None or asked < 0
    ):  # not given, or not a constant in the trace. Then half a spectrum is of 2(n-1) points
        given, half = inputs[0][last], outputs[0][last]
        asked = given if given // 2 + 1 == half else 2 * (half - 1)
    return _transform(inputs[0], dims, [*(outputs[0][d] for d in dims[:-1]), asked])


def transform_kernel(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count an FFT in the form that it has below the dispatcher: (self, dim, ...).

    A real transform stores half a spectrum, so its real side is longer.
    """
    dims = inputs[1]
    return _transform(inputs[0], dims, [max(inputs[0][d], outputs[0][d]) for d in dims])


def _transformed(inputs: Sequence[Any]) -> list[int]:
    """Return the dimensions of a transform. Without `dim`, they are the last ones that `s` has sizes for, or all."""
    given, dims = inputs[1], inputs[2]
    if dims is None:
        count = len(inputs[0]) if given is None else len(given)
        return list(range(-count, 0))
    return [dims] if isinstance(dims, int) else list(dims)


def _transform(before: Shape, dims: Sequence[int], sizes: Sequence[int]) -> int:
    points = math.prod(sizes)
    rows = math.prod(before) // math.prod(before[d] for d in dims)
    return _butterflies(rows, points)


def _butterflies(rows: int, points: int) -> int:
    """Return the number of real operations of `rows` transforms of `points` points."""
    return round(5 * rows * points * math.log2(points)) if points else 0


def windowed_transform(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count stft: an FFT of each frame, and one product with the window for each of its points."""
    signal, points, made = inputs[0], inputs[1], outputs[0]
    # complex: (..., frequencies, frames). As pairs of real numbers: (..., frequencies, frames, 2)
    frames = math.prod(signal[:-1]) * (made[-1] if len(made) == len(signal) + 1 else made[-2])
    return _butterflies(frames, points) + (frames * points if inputs[4] is not None else 0)


def inverse_windowed_transform(inputs: Sequence[Any], outputs: Sequence[Shape]) -> int:
    """Count istft: an FFT of each frame, its window, its addition to the signal, and the division by the windows."""
    spectrum, points = inputs[0], inputs[1]
    frames = spectrum[-1] * math.prod(spectrum[:-2])
    return _butterflies(frames, points) + 2 * frames * points + math.prod(outputs[0])


def _broadcast(a: Shape, b: Shape) -> Shape:
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b)
    return tuple(y if x == 1 else x for x, y in zip(a, b, strict=True))
