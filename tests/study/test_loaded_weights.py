"""A search that starts from loaded weights, by command: --checkpoint, --pretrained, --freeze backbone."""

import pytest
import timm
import torch

import nasbench as nb
from nasbench import cli

pytestmark = pytest.mark.usefixtures("small_data")

SPACE = """
variants: [coord_attention]
slots: [stage2]
compositions: [none, a]
"""


@pytest.fixture
def weights(tmp_path):
    """A bare backbone's weights, with running statistics that are not the initial ones."""
    torch.manual_seed(1)
    bare = timm.create_model("test_resnet", num_classes=10).train()
    bare(torch.randn(8, 3, 32, 32))
    torch.save(bare.state_dict(), tmp_path / "bare.pt")
    return bare.state_dict()


def search(tmp_path, *more):
    (tmp_path / "space.yaml").write_text(SPACE)
    words = ["search", tmp_path / "space.yaml", "--backbone", "test_resnet", "--task", "digits", "--trials", 2]
    words += ["--seeds", 1, "--size", 32, "--keep", "all", "--set", "epochs=1", "--set", "latency_s=0"]
    assert cli.main([str(w) for w in [*words, "--out", tmp_path / "run", *more]]) == 0
    run = nb.load_run(tmp_path / "run")
    return {row["plan"]: run.build(row["number"]) for row in run.trials().to_dict(orient="records")}


def changed(model, weights):
    """The keys of the bare backbone that are not what was loaded."""
    bare = nb.bare_state_dict(model)
    assert set(bare) == set(weights)
    return {key for key, value in bare.items() if not torch.equal(value, weights[key])}


def test_a_frozen_backbone_is_what_was_loaded(tmp_path, weights):
    """Its batch norms' running statistics too; what was inserted, and the classifier, have trained."""
    models = search(tmp_path, "--checkpoint", tmp_path / "bare.pt", "--freeze", "backbone")
    assert len(models) == 2
    for model in models.values():
        assert changed(model, weights) == {"fc.weight", "fc.bias"}
    (inserted,) = [model for plan, model in models.items() if plan != "{}"]
    assert inserted.nasbench.stage2.gate.abs() > 0
    assert all(not torch.equal(m.running_mean, torch.zeros_like(m.running_mean))
               for m in inserted.nasbench.modules() if isinstance(m, torch.nn.BatchNorm2d))  # fmt: skip


def test_a_checkpoint_trains_on(tmp_path, weights):
    for model in search(tmp_path, "--checkpoint", tmp_path / "bare.pt").values():
        assert changed(model, weights) == set(weights)


def test_timms_own_weights(tmp_path, weights, monkeypatch):
    """timm reads them from the file that its configuration names; no network is asked."""
    config = timm.models._registry._model_pretrained_cfgs["test_resnet.r160_in1k"]
    monkeypatch.setattr(config, "file", str(tmp_path / "bare.pt"))
    monkeypatch.setattr(config, "num_classes", 10)
    for model in search(tmp_path, "--pretrained", "--freeze", "backbone").values():
        assert changed(model, weights) == {"fc.weight", "fc.bias"}


def test_weights_that_cannot_be_had(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    words = ["search", "--backbone", "test_resnet", "--task", "digits", "--pretrained", "--out", str(tmp_path / "run")]
    assert cli.main(words) == 4
    error = capsys.readouterr().err
    assert "the pretrained weights of test_resnet" in error
    assert "--checkpoint" in error
    assert not (tmp_path / "run").exists()
