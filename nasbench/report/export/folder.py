"""Export of a trial as a folder that works without nasbench: code, weights, model card and example."""

from __future__ import annotations

import ast
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import jinja2
import torch
from safetensors.torch import save_model
from torch import Tensor, nn

from nasbench.backbones import insertion, is_stem, takes_covariates
from nasbench.backbones.dense import DenseHost
from nasbench.builtin import content_folder
from nasbench.errors import InputError, RunError, UnsupportedError
from nasbench.library.plan import BARE, NECK, Plan
from nasbench.library.pretexts import SUPERVISED
from nasbench.library.surroundings import surroundings_kept
from nasbench.report.export.item import RESULTS, Item, SeriesItem, item_of
from nasbench.report.export.model_card import card_metadata, data_name, timm_config
from nasbench.report.export.source import DenseParts, model_source
from nasbench.report.formatting import is_missing
from nasbench.runs.models import ModelBuilder
from nasbench.runs.run import Run
from nasbench.runs.schema import read_test_metrics

__all__ = ["export_trial"]

_TOLERANCE = 1e-4
"""Largest allowed absolute difference between the outputs of onnxruntime and torch, as a share of the largest absolute
output. If that output is below 1, the difference itself must be at most this."""

_SIDES = 16
"""The sides of the images on which model.onnx of super-resolution is tried are multiples of this, as in evaluation."""


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

    @property
    def dense(self) -> DenseParts | None:
        """The host, neck and head of the model of a dense task. None for other tasks."""
        if self.builder.head is None:
            return None
        return DenseParts(cast(DenseHost, insertion.host_of(self.model)), self.builder.neck, self.builder.head)

    @cached_property
    def item(self) -> Item | SeriesItem | None:
        """A real item for the example of a task of which images or series are shown."""
        shown = self.run.config["task"]["kind"] in RESULTS and self.builder.task is None
        return item_of(self.run) if shown else None


@surroundings_kept()  # the function seeds random generators, and the states of the caller's generators must not change
def export_trial(run: Run, number: int, out: str | Path, *, onnx: bool = False, force: bool = False) -> Path:
    """Export a trial as a folder that works without nasbench.

    The folder contains model.py, model.safetensors, config.json, README.md (the model card), example.py and
    requirements.txt. For a dense task and for series to classify it also has an item of the test split, and the result
    of the run's model for this item. Before the folder is created, the model that `model.py` builds is compared with
    the run's model. It must have the same keys and the same output, bit for bit.

    Args:
        run: The run.
        number: A trial whose weights were stored.
        out: The folder. It must be empty or not exist yet, unless `force` is True.
        onnx: Whether to write model.onnx too, and check it with onnxruntime. Its outputs are the raw
            outputs of the model. For a dense task they must still be decoded with `model.head.decode`. It takes any
            batch size, and in super-resolution images of any size, if torch can export that.
        force: Whether `out` may contain files. Those with the names of the export are replaced.

    Returns:
        The folder.

    Raises:
        InputError: If there is no such trial, or if `out` is not empty.
        RunError: If the trial's weights were not stored, if the exported source does not give the same model, or if the
            run has Python code of its own and is not trusted.
        UnsupportedError: If the source of a part cannot be read.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not force)):
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
            if out.exists():
                shutil.copytree(staged, out, dirs_exist_ok=True)
            else:
                shutil.move(staged, out)
    except OSError as error:
        raise RunError(f"cannot write {out}: {error.strerror or error}") from None
    return out


def _winner(run: Run, number: int) -> _Winner:
    plan, builder = run.plan_of(number), run.builder()
    if builder.task is not None and builder.head is not None:
        raise UnsupportedError(
            f"the task of run {run.path.name} has a head and an `attach` of its own, and such models are not exported"
        )
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
        dense=winner.dense,
        task=builder.task,
    )
    (folder / "model.py").write_text(source, encoding="utf-8")
    save_model(winner.model, str(folder / "model.safetensors"))
    shutil.copymode(folder / "model.py", folder / "model.safetensors")  # safetensors lets only the owner read it
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
    card = _card(winner)
    for name in ("README.md", "example.py"):
        template = environment.get_template(f"export/{name}.j2")
        text = template.render(
            config=config,
            run=run,
            card=card,
            metadata=card_metadata(run, config, card),
            outputs_alone=_outputs_alone(winner),
        )
        (folder / name).write_text(text, encoding="utf-8")
    if winner.item is not None:
        winner.item.write(winner.model, folder)
    # Exact versions, because the output of the exported model was compared with the run's model under these.
    needs = [f"{name}=={version(name)}" for name in _requirements(source)]
    (folder / "requirements.txt").write_text("\n".join(needs) + "\n", encoding="utf-8")


def _outputs_alone(winner: _Winner) -> bool:
    """Return whether the example only shows the shapes of the outputs.

    So it is if nothing is known of a task of the user's own, and after learning without labels, which does not train
    the last layer.
    """
    if winner.run.settings.learn != SUPERVISED:
        return True
    if winner.dense is not None:
        return False
    with torch.no_grad():
        return not _preprocessing(winner.run) or not isinstance(winner.model(_example(winner)), Tensor)


def _requirements(source: str) -> list[str]:
    """Return the packages that the source and its example import, under the names of their distributions."""
    imported = {"torch", "timm", "safetensors", "numpy"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    known = packages_distributions()
    return sorted({known[name][0] for name in imported if name in known})


def _config(winner: _Winner) -> dict[str, Any]:
    """Return the content of config.json: what the model is and how its input is prepared."""
    run, builder = winner.run, winner.builder
    kwargs = dict(builder.model_kwargs)
    if is_stem(builder.backbone) and not takes_covariates(builder.backbone):
        kwargs.pop("covariates", None)  # the task has them, but this model does not read them
    return {
        **timm_config(builder, _preprocessing(run)),
        "schema_version": 1,
        "backbone": run.settings.backbone,
        "plan": json.loads(winner.plan.text),
        "kind": run.config["task"]["kind"],
        **({} if builder.head is None else {"head": builder.head, "neck": _neck(winner)}),
        "input_size": list(builder.input_size),
        **kwargs,
        "preprocessing": _preprocessing(run),
        "identity_init": builder.identity_init,
        "run": {"name": run.path.name, "trial": winner.number, "seed": run.settings.seed},
    }


def _neck(winner: _Winner) -> str:
    """Return the neck of the model: that of its plan, or else that of its host."""
    return winner.plan[NECK].canonical() if NECK in winner.plan else winner.builder.neck


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
        "data": data_name(str(run.settings.task)),
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
    sys.modules[module.__name__] = module  # dataclasses look up their module by name
    try:
        exec(code, module.__dict__)
        return module.load(folder)
    finally:
        del sys.modules[module.__name__]


def _example(winner: _Winner) -> Tensor:
    size = winner.builder.input_size
    if winner.item is not None:  # an item of super-resolution can have another size
        size = tuple(winner.item.inputs.shape[1:])
    # Two items, because torch.export treats a dimension of size 1 as a constant.
    x = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    return x if winner.item is None else torch.cat([winner.item.inputs, x[:1]])


def _leaves(value: Any, name: str = "output") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of an output that can be nested, each with its name, such as `anchors_0`."""
    if isinstance(value, Tensor):
        yield name, value
        return
    parts = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, part in parts:
        yield from _leaves(part, str(key) if name == "output" else f"{name}_{key}")


def _check(winner: _Winner, folder: Path) -> None:
    written = _load(folder)
    x = _example(winner)
    answers = []
    with torch.no_grad():  # the same seed for both, because a module can draw random numbers in eval mode too
        for model in (winner.model, written):
            torch.manual_seed(0)
            raw, head = model(x), cast(Any, model.head) if winner.dense is not None else None
            decoded = [] if head is None else head.decode(raw, [tuple(x.shape[2:])] * len(x))
            answers.append([dict(_leaves(raw)), dict(_leaves(decoded))])
    for expected, actual in zip(*answers, strict=True):
        if expected.keys() != actual.keys():
            raise RunError(f"the exported source of trial {winner.number} does not give the same outputs")
        for name, value in expected.items():
            if not torch.equal(value, actual[name]):
                raise RunError(
                    f"the exported source of trial {winner.number} does not give the same {name}"
                    f"{_gap(value, actual[name])}"
                )


def _gap(expected: Tensor, actual: Tensor) -> str:
    """Return by how much two tensors differ, as text. Empty if they have different shapes."""
    return f": off by {float((expected - actual).abs().max()):.3g}" if expected.shape == actual.shape else ""


def _write_onnx(winner: _Winner, folder: Path) -> None:
    """Write model.onnx for any batch size, and compare it with the model in onnxruntime.

    In super-resolution it also takes images of any size, if torch can export that. config.json gets the size that it
    takes as `onnx_input_size`, where -1 stands for any.
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ImportError as error:
        raise InputError(f"--onnx needs {error.name}: pip install 'nasbench[onnx]'") from None
    x, any_side = _example(winner), False
    if winner.run.config["task"]["kind"] == "super-resolution":
        # A dimension is only known to be free after it worked for another size than that of the example.
        other = x[:, :, : x.shape[2] // 2 // _SIDES * _SIDES, :].repeat(1, 1, 1, 2)
        with suppress(RunError):
            _export_onnx(winner, folder, x, [x, other] if other.numel() else [x], any_side=True)
            any_side = True
    if not any_side:
        _export_onnx(winner, folder, x, [x], any_side=False)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["onnx_input_size"] = [-1, x.shape[1], *((-1, -1) if any_side else x.shape[2:])]
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _export_onnx(winner: _Winner, folder: Path, x: Tensor, tried: Sequence[Tensor], *, any_side: bool) -> None:
    """Write model.onnx from an example, and compare it with the model for each of the batches `tried`, and one item.

    Raises:
        RunError: If it cannot be written, does not run, or gives other outputs.
    """
    import onnxruntime

    file, batch = folder / "model.onnx", torch.export.Dim("batch", min=1)
    sides = [torch.export.Dim.STATIC] * (x.ndim - 1)
    if any_side:
        sides[1:] = [torch.export.Dim.DYNAMIC] * (x.ndim - 2)
    with torch.no_grad():
        names = [name for name, _ in _leaves(winner.model(x))]
    try:
        torch.onnx.export(
            winner.model,
            (x,),
            str(file),
            dynamo=True,
            input_names=["input"],
            output_names=names,
            dynamic_shapes=((batch, *sides),),
            external_data=False,
            verbose=False,
        )
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise RunError(f"trial {winner.number} cannot be written as ONNX: {lines[0] if lines else error!r}") from error
    for inputs in (x[:1], *tried):  # the exporter may have made the batch size of its example a constant
        with torch.no_grad():
            expected = dict(_leaves(winner.model(inputs)))
        try:
            answers = session.run(names, {session.get_inputs()[0].name: inputs.numpy()})
        except Exception as error:  # onnxruntime has an exception of its own for each of its many error codes
            raise RunError(f"model.onnx of trial {winner.number} does not run on a batch of {len(inputs)}") from error
        for name, answer in zip(names, answers, strict=True):
            value = expected[name].double()
            gap = float((torch.from_numpy(answer).double() - value).abs().max())
            if gap > _TOLERANCE * max(1.0, float(value.abs().max())):
                raise RunError(f"{name} of model.onnx of trial {winner.number} differs from the model by {gap:.3g}")
