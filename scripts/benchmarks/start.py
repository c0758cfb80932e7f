"""Print the processor time that commands and imports take to start, beside that of `import torch, timm`.

    .venv/bin/python scripts/benchmarks/start.py [--repeats 3] [--only WORD]

Each row is the median over fresh processes, user and system time together. Commands that do work do the least of it:
the smallest backbone, one repeat. `measure` gets 64 px, because at 32 px a training step of this backbone fails, and is
tried a second time on real data. A ratio is to `import torch, timm` in the same run.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.benchmarks.paired import command_line

HEAVY = ("torch", "timm", "pandas", "scipy.stats", "matplotlib", "sklearn", "fvcore", "optuna")

PEER = "import torch, timm"
IMPORTS = (
    PEER,
    "import nasbench",
    "import nasbench.study",
    "import nasbench.runs.run",
    "import nasbench.study.search",
    "import nasbench.study.driver",
    "import nasbench.report.assembly",
    "import nasbench as nb; nb.slots('test_resnet', (3, 32, 32))",
    "import nasbench as nb; nb.insert('test_resnet', 'se', input_size=(3, 32, 32))",
)
AT_ONCE = (
    *("--help", "search --help", "runs", "modules", "modules *attention*", "show se", "spaces", "spaces tiny"),
    *("show SE", "spaces tinny", "slots resnet19", "measure resnet19", "measure resnet18 --plan see"),
    *("profile resnet19", "suggest resnet19", "fingerprint see", "search tinny", "search --backbone resnet19"),
    *("search --task digitz", "search --task digits --objective acuracy", "search --set epoch=3", "tabulate tinny"),
    *("report runs/nothing", "export runs/run0 --trial 99 --out x", "train runs/run0 --trial 99 --epochs 1"),
    *("compare runs/nothing runs/run0", "check nothing.py", "init project"),
    *("search --device cudaa", "search --checkpoint nothing.pt", "search --latency-profile nothing.json"),
    *("search --task csv:nothing.csv", "search --task cifar10", "search --set optimizer=adamv", "modules SE"),
    *("profile resnet18 --mode quick", "export runs/run0 --format xlsx", "show se(reduction=4)", "search --space tiny"),
)
WORKING = (
    *("slots test_resnet --size 32", "measure test_resnet --size 64", "fingerprint se --size 4x4 --inputs 1"),
    *("profile test_resnet --size 32 --time 1 --device cpu", "suggest se", "report runs/run0"),
    *("compare runs/run0 runs/run1", "export runs/run0 --format csv", "doctor --device cpu --time 1"),
)

RUN = """
import json, sys
from nasbench.cli import main
code = main({arguments!r})
"""
TELL = """
print("\\n" + json.dumps([code, [name for name in {heavy!r} if name in sys.modules]]))
"""
TEN_RUNS = """
import nasbench as nb
for index in range(10):
    nb.search("tiny", evaluate=lambda plan: {"score": float(len(plan))}, objectives={"score": "maximize"}, trials=8,
              sampler="random", seed=index, report=False, out=f"runs/run{index}")
"""


def timed(code: str, folder: Path) -> tuple[float, int, list[str]]:
    """Run code in a fresh process; return its processor seconds, exit code of the command, heavy packages loaded."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    whole = code + TELL.format(heavy=HEAVY)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", whole], cwd=folder, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    exit_code, loaded = json.loads(done.stdout.splitlines()[-1])
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, exit_code, loaded


def main() -> None:
    """Time, print."""
    parser = command_line(__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="rows that hold this word")
    given = parser.parse_args()
    lines = {text: f"import json, sys\n{text}\ncode = 0\n" for text in IMPORTS}
    lines |= {f"nasbench {text}": RUN.format(arguments=text.split()) for text in (*AT_ONCE, *WORKING)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-W", "ignore", "-c", TEN_RUNS], cwd=folder, check=True, capture_output=True)
        peer = 0.0
        print(f"{'':58s} {'CPU s':>7s} {'ratio':>6s}  exit  loads")
        for text, code in lines.items():
            if given.only not in text and text != PEER:
                continue
            found = [timed(code, folder) for _ in range(given.repeats)]
            seconds = statistics.median(one[0] for one in found)
            peer = peer or seconds
            print(
                f"{text:58s} {seconds:7.2f} {seconds / peer:6.2f}  {found[0][1]:4d}  {', '.join(found[0][2])}",
                flush=True,
            )


if __name__ == "__main__":
    main()
