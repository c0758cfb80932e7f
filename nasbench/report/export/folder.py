"""Export of a trial as a folder that works without nasbench: code, weights, model card and example."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import torch
from safetensors.torch import save_model
from torch import Tensor, nn

from nasbench.backbones import insertion, is_stem, takes_covariates
from nasbench.builtin import content_folder
from nasbench.errors import InputError, RunError
from nasbench.library.plan import BARE, Plan
from nasbench.library.surroundings import surroundings_kept
from nasbench.report.export.source import model_source
from nasbench.report.formatting import is_missing
from nasbench.runs.models import ModelBuilder
from nasbench.runs.run import Run
from nasbench.runs.schema import read_test_metrics

__all__ = ["export_trial"]

_TOLERANCE = 1e-4
"""Largest allowed absolute difference between the outputs of onnxruntime and torch, as a share of the largest absolute
output. If that output is below 1, the difference itself must be at most this."""


@dataclass(frozen=True)
class _Winner:
    """A trained plan, its run and its model."""

    run: Run
    number: int
    plan: Plan
    builder: ModelBuilder
    model: nn.Module

    @property
    def title(self) -> str:
        host = str(self.run.settings.backbone).replace('"', "").replace("\\", "/")
        return f"{Path(host).name} with {self.plan.text}" if not self.plan.is_bare else f"bare {Path(host).name}"


@surroundings_kept()  # the function seeds random generators, and the states of the caller's generators must not change
def export_trial(run: Run, number: int, out: str | Path, *, onnx: bool = False) -> Path:
    """Export a trial as a folder that works without nasbench.

    The folder contains model.py, model.safetensors, config.json, README.md (the model card), example.py and
    requirements.txt. Before the folder is created, the model that `model.py` builds is compared with the run's model.
    It must have the same keys and the same output, bit for bit.

    Args:
        run: The run.
        number: A trial whose weights were stored.
        out: The folder. It must be empty or not exist yet.
        onnx: Whether to write model.onnx too, and check it with onnxruntime.

    Returns:
        The folder.

    Raises:
        InputError: If there is no such trial, or if `out` is not empty.
        RunError: If the trial's weights were not stored, if the exported source does not give the same model, or if the
            run has Python code of its own and is not trusted.
        UnsupportedError: If the source of a part cannot be read.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not empty; choose another --out")
    winner = _winner(run, number)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Written beside `out` and moved there after all checks have passed, so that a failed export leaves nothing
        # behind.
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
            staged = Path(folder) / "model"
            staged.mkdir()
            _write(winner, staged)
            _check(winner, staged)
            if onnx:
                _write_onnx(winner, staged)
            if out.exists():  # an empty folder, into which `move` would put the model as a subfolder
                out.rmdir()
            shutil.move(staged, out)
    except OSError as error:
        raise RunError(f"cannot write {out}: {error.strerror or error}") from None
    return out


def _winner(run: Run, number: int) -> _Winner:
    builder, plan = run.builder(), run.plan_of(number)
    return _Winner(run, number, plan, builder, run.build(number))


def _write(winner: _Winner, folder: Path) -> None:
    builder, run = winner.builder, winner.run
    source = model_source(
        builder.backbone,
        winner.plan,
        insertion.slots_of(winner.model),
        input_size=builder.input_size,
        model_kwargs=dict(builder.model_kwargs),
        identity_init=builder.identity_init,
        title=winner.title,
    )
    (folder / "model.py").write_text(source, encoding="utf-8")
    save_model(winner.model, str(folder / "model.safetensors"))
    config = _config(winner)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(content_folder("reports")),
        autoescape=False,  # Markdown and Python, not HTML
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name in ("README.md", "example.py"):
        text = environment.get_template(f"export/{name}.j2").render(config=config, run=run, card=_card(winner))
        (folder / name).write_text(text, encoding="utf-8")
    # Exact versions, because the output of the exported model was compared with the run's model under these.
    needs = [f"{name}=={version(name)}" for name in ("torch", "timm", "safetensors", "numpy")]
    (folder / "requirements.txt").write_text("\n".join(needs) + "\n", encoding="utf-8")


def _config(winner: _Winner) -> dict[str, Any]:
    """Return the content of config.json: what the model is and how its input is prepared."""
    run, builder = winner.run, winner.builder
    kwargs = dict(builder.model_kwargs)
    if is_stem(builder.backbone) and not takes_covariates(builder.backbone):
        kwargs.pop("covariates", None)  # the task has them, but this model does not read them
    return {
        "schema_version": 1,
        "backbone": run.settings.backbone,
        "plan": json.loads(winner.plan.text),
        "kind": run.config["task"]["kind"],
        "input_size": list(builder.input_size),
        **kwargs,
        "preprocessing": _preprocessing(run),
        "identity_init": builder.identity_init,
        "run": {"name": run.path.name, "trial": winner.number, "seed": run.settings.seed},
    }


def _preprocessing(run: Run) -> dict[str, Any]:
    """Return how inputs are prepared. A run of version 0.1.0 did not record it, so its data is read."""
    return run.task().preprocessing() if run.data is None else run.data.preprocessing


def _card(winner: _Winner) -> dict[str, Any]:
    """Return the numbers of the model card: means over seeds for a compared plan, else those of the trial."""
    run = winner.run
    compared = run.finalists().to_dict(orient="records")
    own = next((row for row in compared if row["plan_hash"] == winner.plan.hash), None)
    rows = [r for r in run.trials().to_dict(orient="records") if r["plan_hash"] == winner.plan.hash]
    row = own or next(r for r in rows if r["number"] == winner.number)
    bare = next((r for r in compared if r["plan"] == BARE.text), None)
    tested = read_test_metrics(run.folder)["plans"]
    return {
        "title": winner.title,
        "row": row,
        "bare": bare,
        "metric": run.metric or next(iter(run.directions)),
        "test": tested.get(winner.plan.hash, {}),
        "costs": [
            name
            for name in ("params", "macs", "elementwise_flops", "latency_ms")
            if not any(is_missing(shown.get(name)) for shown in (row, bare) if shown is not None)
        ],
    }


def _load(folder: Path) -> nn.Module:
    """Execute an exported model.py and return its model with the weights."""
    module = ModuleType("exported_model")
    module.__file__ = str(folder / "model.py")
    code = compile((folder / "model.py").read_text(encoding="utf-8"), "model.py", "exec")
    import sys

    sys.modules[module.__name__] = module  # dataclasses look up their module by name
    try:
        exec(code, module.__dict__)
        return module.load(folder)
    finally:
        del sys.modules[module.__name__]


def _example(winner: _Winner) -> Tensor:
    size = winner.builder.input_size
    # Two items, because torch.export treats a dimension of size 1 as a constant.
    return torch.randn(2, *size, generator=torch.Generator().manual_seed(0))


def _check(winner: _Winner, folder: Path) -> None:
    written = _load(folder)
    x = _example(winner)
    with torch.no_grad():  # the same seed for both, because a module can draw random numbers in eval mode too
        torch.manual_seed(0)
        expected = winner.model(x)
        torch.manual_seed(0)
        actual = written(x)
    if not torch.equal(expected, actual):
        gap = float((expected - actual).abs().max())
        raise RunError(f"the exported source of trial {winner.number} does not give the same output: off by {gap:.3g}")


def _write_onnx(winner: _Winner, folder: Path) -> None:
    """Write model.onnx for any batch size, and compare it with the model in onnxruntime."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ImportError as error:
        raise InputError(f"--onnx needs {error.name}: pip install 'nasbench[onnx]'") from None
    x, file = _example(winner), folder / "model.onnx"
    batch = torch.export.Dim("batch", min=1)
    try:
        torch.onnx.export(
            winner.model,
            (x,),
            str(file),
            dynamo=True,
            input_names=["input"],
            dynamic_shapes=((batch, *[None] * (x.ndim - 1)),),
            external_data=False,
            verbose=False,
        )
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise RunError(f"trial {winner.number} cannot be written as ONNX: {lines[0] if lines else error!r}") from error
    for batch_size in (1, len(x)):  # the exporter can have made the batch size of its example a constant
        with torch.no_grad():
            expected = winner.model(x[:batch_size])
        (answer,) = session.run(None, {session.get_inputs()[0].name: x[:batch_size].numpy()})
        gap = float((torch.from_numpy(answer) - expected).abs().max())
        if gap > _TOLERANCE * max(1.0, float(expected.abs().max())):
            raise RunError(f"model.onnx of trial {winner.number} differs from the model by {gap:.3g}")
