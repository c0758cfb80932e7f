import numpy as np
import pytest
import torch

import nasbench as nb
from nasbench.backbones import STEMS, create_backbone, is_stem
from nasbench.errors import BackboneError
from nasbench.ops.series import InstanceNorm, decompose, patches

STEM_NAMES = ["dlinear", "patchtst"]


def test_the_registry():
    assert is_stem("dlinear")
    assert not is_stem("resnet18")
    assert set(STEM_NAMES) <= set(STEMS)


@pytest.mark.parametrize("name", STEM_NAMES)
@pytest.mark.parametrize(("lookback", "series", "horizon"), [(96, 7, 24), (5, 1, 1), (30, 3, 50)])
def test_any_lookback_horizon_and_series(name, lookback, series, horizon):
    model = create_backbone(name, input_size=(lookback, series), horizon=horizon)
    out = model(torch.randn(2, lookback, series))
    assert out.shape == (2, horizon, series)
    out.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_trend_by_hand():
    """[0, 3, 6] with its ends repeated: means of (0, 0, 3), (0, 3, 6), (3, 6, 6)."""
    seasonal, trend = decompose(torch.tensor([[[0.0, 3.0, 6.0]]]), 3)
    torch.testing.assert_close(trend, torch.tensor([[[1.0, 3.0, 5.0]]]))
    torch.testing.assert_close(seasonal, torch.tensor([[[-1.0, 0.0, 1.0]]]))


def test_patches_by_hand():
    """Six steps, patches of 4 every 2, the last value repeated twice: 3 patches."""
    cut = patches(torch.arange(6.0).view(1, 1, 6), 4, 2)
    assert cut.tolist() == [[[[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 5, 5]]]]


def test_instance_normalisation_comes_back():
    norm = InstanceNorm(3)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2.0)
        norm.bias.normal_()
    x = torch.randn(4, 20, 3) * 5 + 7
    y, mean, deviation = norm(x)
    torch.testing.assert_close(norm.restore(y, mean, deviation), x, rtol=1e-4, atol=1e-4)


def test_dlinear_finds_a_linear_solution():
    """The next value of a straight line is linear in the past: DLinear's least-squares fit must be exact."""
    torch.manual_seed(0)
    model = create_backbone("dlinear", input_size=(12, 1), horizon=3).double()
    start, slope = torch.randn(256, 1, 1).double(), torch.randn(256, 1, 1).double()
    steps = torch.arange(15).double().view(1, 15, 1)
    line = start + slope * steps
    optimiser = torch.optim.LBFGS(model.parameters(), max_iter=300, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = (model(line[:, :12]) - line[:, 12:]).square().mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    assert closure().item() < 1e-6


def test_patchtst_is_channel_independent():
    """Changing one series changes no other's forecast, and permuting series permutes forecasts."""
    torch.manual_seed(0)
    model = create_backbone("patchtst", input_size=(48, 4), horizon=8).eval()
    x = torch.randn(2, 48, 4)
    changed = x.clone()
    changed[..., 0] += torch.randn(2, 48)
    with torch.no_grad():
        torch.testing.assert_close(model(changed)[..., 1:], model(x)[..., 1:])
        torch.testing.assert_close(model(x[..., [3, 1, 0, 2]]), model(x)[..., [3, 1, 0, 2]])


def test_patchtst_follows_the_level_and_scale_of_its_window():
    torch.manual_seed(0)
    model = create_backbone("patchtst", input_size=(48, 2), horizon=8).eval()
    x = torch.randn(2, 48, 2)
    with torch.no_grad():
        torch.testing.assert_close(model(3 * x + 10), 3 * model(x) + 10, rtol=1e-3, atol=1e-3)


def test_slots():
    assert [s.name for s in nb.slots("dlinear", input_size=(96, 7))] == ["input", "trend", "seasonal"]
    found = {s.name: s for s in nb.slots("patchtst", input_size=(96, 7))}
    assert found["embed"].size == found["stage2"].size == (12,)
    assert found["stage3"].channels == 64
    assert {"stage1", "stage1.block1", "stage3"} <= set(found)


def test_insertion_into_a_stem_changes_nothing_at_first():
    torch.manual_seed(0)
    bare = create_backbone("patchtst", input_size=(96, 7), horizon=24).eval()
    model = nb.insert(bare, {"stage1": "gated_tcn", "embed": "self_attention"}, input_size=(96, 7))
    x = torch.randn(2, 96, 7)
    with torch.no_grad():
        assert torch.equal(model(x), bare(x))
    named = nb.insert("patchtst", {"stage1": "gated_tcn"}, input_size=(96, 7), horizon=24)
    assert named(x).shape == (2, 24, 7)


def test_costs_of_a_stem_by_hand():
    """DLinear: two linear maps of L·H weights for each series."""
    cost = nb.measure(create_backbone("dlinear", input_size=(96, 7), horizon=24), input_size=(96, 7))
    assert cost.macs == 2 * 96 * 24 * 7
    assert cost.params == 2 * (96 * 24 + 24)
    assert cost.exact


def test_what_a_stem_refuses():
    with pytest.raises(BackboneError, match="lookback, series"):
        create_backbone("dlinear", input_size=(3, 32, 32))
    with pytest.raises(BackboneError, match="do not divide"):
        STEMS.get("patchtst")(lookback=96, horizon=24, series=7, heads=5)


def test_a_forecasting_search_end_to_end(tmp_path):
    """A generated CSV: costs, training, finalists, latency, naive forecasts and the report."""
    from nasbench import report

    steps = np.arange(400)
    values = np.sin(steps / 6) + 0.1 * np.random.default_rng(0).normal(size=400)
    lines = [f"2020-01-01 {s // 60:02d}:{s % 60:02d}:00,{v:.4f},{-v:.4f}" for s, v in zip(steps, values, strict=True)]
    (tmp_path / "data.csv").write_text("date,a,b\n" + "\n".join(lines) + "\n")
    run = nb.search(
        backbone="dlinear", task=f"csv:{tmp_path / 'data.csv'}", lookback=24, horizon=6, trials=3, seeds=2,
        training={"epochs": 1}, latency_s=0.5, sampler="random", out=tmp_path / "run",
    )  # fmt: skip
    rows = run.trials()
    assert set(rows["state"]) == {"complete"}
    assert run.metric == "mse"
    assert {"mse", "mae", "macs", "latency_ms"} <= set(rows.columns)
    text = report.build(run).read_text()
    assert "Naive forecasts" in text
    assert "last value" in text or "last_value" in text
