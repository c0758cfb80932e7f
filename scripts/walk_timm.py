"""Try nasbench on every timm architecture, on the meta device, and write the results as CSV.

    .venv/bin/python scripts/walk_timm.py [--out FILE.csv] [--match PATTERN] [--processes 2]

For each architecture: build it, find its slots, insert `se` at every stage slot, run a forward pass, and remove the
modules again. Takes less than ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import fnmatch
import multiprocessing
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import timm
import torch

from nasbench.backbones import create_backbone, default_input_size
from nasbench.backbones.insertion import insert, remove, slots_of


def family(name: str) -> str:
    """Return timm's module that defines the architecture ("resnet", "vision_transformer")."""
    return timm.models._registry._model_to_module[name]


def walk(name: str) -> dict[str, object]:
    """Try one architecture."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    row: dict[str, object] = {"architecture": name, "family": family(name), "stages": 0, "blocks": 0, "layout": ""}
    try:
        size = default_input_size(name)
        if size is None:
            raise AssertionError("timm does not say which input size it was made for")
        with torch.device("meta"):
            bare = create_backbone(name).eval()
        model = insert_se(bare, size)
        found = slots_of(model)
        stages = [s for s in found if "block" not in s.name]
        row |= {"stages": len(stages), "blocks": len(found) - len(stages)}
        row |= {"layout": "+".join(dict.fromkeys(s.layout for s in found))}
        row |= {"slots": " ".join(f"{s.module}:{s.channels}x{'x'.join(map(str, s.size))}" for s in stages)}
        check(bare, model, size)
        row["ok"], row["why"] = True, ""
    except Exception as error:
        row |= {"ok": False, "why": f"{type(error).__name__}: {error}".replace("\n", " ")[:300]}
    row["seconds"] = round(time.perf_counter() - start, 2)
    return row


def insert_se(bare: torch.nn.Module, size: tuple[int, ...]) -> torch.nn.Module:
    """Insert `se` at every stage slot."""
    with torch.device("meta"):
        return insert(bare, "se", input_size=size)


def check(bare: torch.nn.Module, model: torch.nn.Module, size: tuple[int, ...]) -> None:
    """Run and remove, on the meta device."""
    with torch.device("meta"), torch.no_grad():
        output = model(torch.zeros(2, *size))
    if bare.num_classes and output.shape != (2, bare.num_classes):
        raise AssertionError(f"the output has shape {tuple(output.shape)} for {bare.num_classes} classes")
    if list(remove(model).state_dict()) != list(bare.state_dict()):
        raise AssertionError("remove left another state dict")
    if not set(bare.state_dict()) < set(model.state_dict()):
        raise AssertionError("insertion changed the backbone's keys")


def rows(names: list[str], processes: int) -> Iterator[dict[str, object]]:
    """Yield a row an architecture, as they come."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(walk, names, chunksize=8)


def main() -> int:
    """Run the walk; 1 where an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/walk_timm.csv"))
    parser.add_argument("--match", default="*")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    names = fnmatch.filter(timm.list_models(), args.match)
    start, table = time.perf_counter(), []
    for row in rows(names, args.processes):
        table.append(row)
        if len(table) % 100 == 0:
            print(f"{len(table)}/{len(names)}, {time.perf_counter() - start:.0f} s", file=sys.stderr)
    frame = pd.DataFrame(table).sort_values(["family", "architecture"])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(args.out, index=False)
    stage, block = (frame.ok & (frame.stages > 0)).mean(), (frame.ok & (frame.blocks > 0)).mean()
    families = frame[frame.ok].family.nunique()
    print(f"{len(frame)} architectures, {time.perf_counter() - start:.0f} s")
    print(f"families served: {families} of {frame.family.nunique()}")
    print(f"stage slots: {stage:.2%}   block slots: {block:.2%}")
    for failed in frame[~frame.ok].itertuples():
        print(f"  {failed.architecture}: {failed.why}")
    print(f"table: {args.out}")
    return 0 if stage >= 0.99 and block >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
