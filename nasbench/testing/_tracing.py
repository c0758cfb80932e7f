"""Check whether torch's tracers accept a module. The answer is reported with the contract but is not part of it."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from nasbench.library.registry import ModuleSpec
from nasbench.testing._candidate import Candidate, candidates, seeded

__all__ = ["compile_status", "export_status", "onnx_status"]

_SIZE = {1: (12,), 2: (6, 8)}
_BATCHES = (1, 2, 5)
_Trace = Callable[[nn.Module, tuple], Callable[..., Tensor | Sequence[Tensor]]]


def compile_status(spec: ModuleSpec) -> str:
    """Return whether `torch.compile(fullgraph=True, backend="eager")` accepts the default variant.

    Returns:
        "yes", or "no: " with torch's message and the line of the module that it is about.
    """
    return _status(spec, _compile)


def export_status(spec: ModuleSpec) -> str:
    """Return whether `torch.export` accepts the default variant.

    Returns:
        "yes", or "no: " with torch's message and the line of the module that it is about.
    """
    return _status(spec, _export)


def onnx_status(spec: ModuleSpec) -> str:
    """Return whether the default variant runs in ONNX at any batch size.

    The module is exported once, with a free batch size. onnxruntime must then give the module's results at batches of
    1, 2 and 5. onnxscript and onnxruntime must be installed.

    Returns:
        "yes", or "no: " with the exporter's message and the line of the module that it is about.
    """
    for candidate in candidates(spec, [{}]):
        fault = _onnx_fault(candidate)
        if fault:
            return f"no: {fault}"
    return "yes"


def _onnx_fault(candidate: Candidate) -> str:
    import onnxruntime  # imported here, because it is an optional package

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4  # its warnings are about its own constant folding
    with seeded(), torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        module = candidate.build().eval()
        maps = candidate.maps(_SIZE[candidate.dims])
        # A batch of 3, because a tracer takes a size of 1 for a constant
        args, free = _arguments(candidate, _batch(maps, 3))
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # the exporter prints its progress
                made = torch.onnx.export(module, args, dynamo=True, dynamic_shapes=free, verbose=False)
            assert made is not None
            session = onnxruntime.InferenceSession(made.model_proto.SerializeToString(), quiet)
        except Exception as error:  # any exception of the exporter is the answer
            cause: BaseException = error
            while cause.__cause__ is not None:  # torch's last message lists the steps of an export and no fault
                cause = cause.__cause__
            return _describe(cause, inspect.getsourcefile(candidate.spec.cls) or "")
        for count in _BATCHES:
            batch = _batch(maps, count)
            named = {given.name: x.numpy() for given, x in zip(session.get_inputs(), batch, strict=True)}
            try:
                outputs = [torch.from_numpy(y) for y in session.run(None, named)]
            except Exception as error:
                return f"at batch {count}: {str(error).splitlines()[0]}"
            if not _close(candidate.run(module, batch), outputs):
                return f"onnxruntime computes a different result at batch {count}"
    return ""


def _batch(maps: Sequence[Tensor], count: int) -> list[Tensor]:
    """Return maps with as many random items."""
    return [torch.randn(count, *x.shape[1:]) for x in maps]


def _arguments(candidate: Candidate, maps: list[Tensor]) -> tuple[tuple, tuple]:
    """Return the arguments of a module, and the same structure with the batch of each map as a free dimension."""
    free = [{0: torch.export.Dim.DYNAMIC} for _ in maps]
    if candidate.spec.kind == "neck":
        return (maps,), (free,)
    parameters = inspect.signature(candidate.spec.cls.forward).parameters.values()
    together = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)  # `*maps` is one argument
    return tuple(maps), ((tuple(free),) if together else tuple(free))


def _compile(module: nn.Module, args: tuple) -> Callable:
    torch.compiler.reset()  # otherwise the recompilations of earlier modules would count towards the limit
    return torch.compile(module, fullgraph=True, backend="eager")


def _export(module: nn.Module, args: tuple) -> Callable:
    return torch.export.export(module, args, strict=False).module()


def _status(spec: ModuleSpec, trace: _Trace) -> str:
    for candidate in candidates(spec, [{}]):
        fault = _fault(candidate, trace)
        if fault:
            return f"no: {fault}"
    return "yes"


def _fault(candidate: Candidate, trace: _Trace) -> str:
    with seeded(), torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        # Tracers warn of deprecations in their own code, and print graphs when they fail.
        warnings.simplefilter("ignore")
        module = candidate.build().eval()
        maps = candidate.maps(_SIZE[candidate.dims])
        args: tuple = (maps,) if candidate.spec.kind == "neck" else tuple(maps)
        plain = candidate.run(module, maps)
        try:
            traced = trace(module, args)(*args)
        except Exception as error:  # any exception of the tracer is the answer
            return _describe(error, inspect.getsourcefile(candidate.spec.cls) or "")
    return "" if _close(plain, traced) else "the traced module computes a different result"


def _close(plain: Sequence[Tensor], traced: Tensor | Sequence[Tensor]) -> bool:
    outputs = [traced] if isinstance(traced, Tensor) else list(traced)
    return all(torch.allclose(x, y, rtol=1e-4, atol=1e-5) for x, y in zip(plain, outputs, strict=True))


def _describe(error: BaseException, file: str) -> str:
    """Return torch's message in one line, together with the line of `file` that it is about.

    This line of code shows the operator that the tracer does not accept.
    """
    text = str(error).strip()
    head = f"{type(error).__name__}: {text.splitlines()[0].strip() if text else 'no message'}"
    # The first line of dynamo's message gives only the kind of the fault. The line "Reason" gives the fault itself.
    reason = re.search(r"Reason: ([^.\n]+)", text)
    head += f": {reason[1]}" if reason else ""
    # torch.compile gives the line in its message. torch.export runs the module, so the traceback contains the line.
    named = [
        (int(line), code) for line, code in re.findall(rf'File "{re.escape(file)}", line (\d+), in .*\n\s*(.+)', text)
    ]
    raised = [(f.lineno, f.line) for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    if not named and not raised:
        return head
    line, code = (named or raised)[-1]
    return f"{head} [{code}; {Path(file).name}:{line}]"
