import ast
import importlib
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from support import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    code = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(out)], cwd=ROOT, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_wheels_only_top_level_name_is_nasbench(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"nasbench"}
    assert "nasbench/builtin/modules/channel/se.py" in names
    assert "nasbench/builtin/modules/status.json" in names
    assert "nasbench/builtin/search_spaces/five-properties.yaml" in names
    assert "nasbench/builtin/reports/report.html.j2" in names
    assert "nasbench/builtin/reports/atlas.parquet" in names
    assert "nasbench/py.typed" in names


@pytest.fixture(scope="module")
def fresh(wheel, tmp_path_factory):
    """The bin folder of a new environment into which pip installed the wheel. It borrows all other packages."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    where = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip())
    # the .pth files of the borrowed folder are not read, so the checkout is not on the path
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*pip, wheel], check=True, capture_output=True, cwd=folder)
    return folder / "bin"


def ran(command, folder):
    environment = {"PATH": "", "OMP_NUM_THREADS": "1", "XDG_STATE_HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pip_installs_the_wheel_into_a_fresh_environment(fresh, tmp_path):
    where = ran([fresh / "python", "-c", "import nasbench; print(nasbench.__file__)"], tmp_path)
    assert where.startswith(str(fresh.parent))
    command = fresh / "nasbench"
    assert "coord_attention" in ran([command, "modules"], tmp_path)
    assert "five-properties" in ran([command, "spaces"], tmp_path)
    plan = "--plan stage4=se --task digits --backbone test_resnet --size 32 --seeds 1 --set epochs=1 --set latency_s=0"
    assert "stage4=se" in ran([command, "search", *plan.split(), "--out", "run"], tmp_path)
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


def test_every_imported_package_is_declared():
    """What another package happens to need can be gone with its next version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [each for group in project["optional-dependencies"].values() for each in group]
    declared = {canonical(re.split(r"[<>=\[]", each)[0]) for each in (*project["dependencies"], *extras)}
    declared |= {"pynvml", "mlflow"}  # import names of nvidia-ml-py and mlflow-skinny, which need not be installed
    known = packages_distributions()
    for file in (*(ROOT / "nasbench").rglob("*.py"), *(ROOT / "modules").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for top in {name.partition(".")[0] for name in names} - {"nasbench", *sys.stdlib_module_names}:
                assert {canonical(each) for each in known.get(top, [top])} & declared, f"{file}:{node.lineno}: {top}"


def canonical(name):
    return name.strip().lower().replace("_", "-")


def test_the_neighbour_of_the_import_name_is_told_apart(tmp_path, monkeypatch):
    """NAS-Bench-101 is imported as nasbench, too."""
    from nasbench.cli import doctor

    for module in ("api", "lib.graph_util"):
        with pytest.raises(ModuleNotFoundError, match="NAS-Bench-101"):
            importlib.import_module(f"nasbench.{module}")
    with pytest.raises(ModuleNotFoundError, match="separate environments"):
        from nasbench import api  # noqa: F401
    before = doctor._neighbours()  # a second checkout of this package is one too
    (tmp_path / "nasbench").mkdir()
    (tmp_path / "nasbench" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor._neighbours() == [tmp_path / "nasbench", *before]


def test_public_names_are_the_documented_ones():
    import nasbench

    assert nasbench.__all__ == sorted(nasbench._HOME)
    for name in nasbench.__all__:
        assert callable(getattr(nasbench, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = nasbench.nothing


def test_built_ins_pickle_into_a_fresh_process(tmp_path):
    import pickle

    import nasbench as nb

    file = tmp_path / "module.pkl"
    file.write_bytes(pickle.dumps(nb.create_module("se", 8)))
    code = f"import pickle, pathlib; print(type(pickle.loads(pathlib.Path({str(file)!r}).read_bytes())).__name__)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "SqueezeExcitation"
