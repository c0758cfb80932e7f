import subprocess
import sys
import zipfile

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
    assert "nasbench/py.typed" in names


def test_the_wheel_works_outside_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import nasbench as nb; from nasbench.spaces import list_spaces;"
        "print(nb.__file__); print(type(nb.create_module('se', 8)).__module__); print(list_spaces())"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    site = {"PYTHONPATH": str(tmp_path / "site"), "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=site, capture_output=True, text=True, check=True)
    where, module, spaces = done.stdout.splitlines()
    assert where.startswith(str(tmp_path))
    assert module == "nasbench.builtin.modules.channel.se"
    assert "five-properties" in spaces


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
