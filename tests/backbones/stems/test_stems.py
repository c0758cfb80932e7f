"""What every forecasting stem must do, whatever it computes; then the oracles of dlinear and patchtst."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch

import nasbench as nb
from nasbench.backbones import STEMS, create_backbone, is_stem, stems_for
from nasbench.errors import BackboneError, PlanError
from nasbench.library import building
from nasbench.library import modules as library
from nasbench.ops.series import InstanceNorm, decompose, patches

STEM_NAMES = sorted(stems_for("horizon"))
CHANNEL_INDEPENDENT = ["dlinear", "patchtst", "unet_tsf"]
TEMPORAL = [s.name for s in library.module_specs(kind="module") if "modules.temporal" in s.cls.__module__]
KEEP_SERIES = ["crossformer", "mtgnn"]  # their slots are maps of series by time
SHALLOW = {"crossformer": {"stages": 2}, "informer": {"layers": 2}, "pyraformer": {"layers": 2}}  # all of their parts
LOOKBACK, HORIZON, SERIES = 26, 5, 3

each_stem = pytest.mark.parametrize("name", STEM_NAMES)


def small(name, seed=0, **hyper):
    torch.manual_seed(seed)
    return STEMS.get(name)(lookback=LOOKBACK, horizon=HORIZON, series=SERIES, **hyper).eval()


def window(batch=2, seed=1):
    return torch.randn(batch, LOOKBACK, SERIES, generator=torch.Generator().manual_seed(seed))


def places(model):
    """One slot for each place: `stageK.block1` and `stageK` may be the same."""
    return {slot.module: slot for slot in nb.slots(model, input_size=(LOOKBACK, SERIES))}.values()


def test_the_registry():
    assert is_stem("dlinear")
    assert not is_stem("resnet18")
    assert {"dlinear", "patchtst", "informer", "pyraformer", "crossformer"} <= set(STEM_NAMES)
    assert {"gated_tcn", "two_stage_attention", "pyramidal_attention"} <= set(TEMPORAL)


@each_stem
@pytest.mark.parametrize(
    ("lookback", "series", "horizon"), [(96, 7, 24), (7, 1, 1), (1, 2, 3), (30, 3, 50), (721, 2, 1), (8, 321, 4)]
)
def test_any_lookback_horizon_and_series(name, lookback, series, horizon):
    model = create_backbone(name, input_size=(lookback, series), horizon=horizon)
    out = model(torch.randn(2, lookback, series))
    assert out.shape == (2, horizon, series)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@each_stem
def test_each_slot_is_where_it_says_and_reaches_the_forecast(name):
    model, x = small(name), window()
    with torch.no_grad():
        bare = model(x)
    for slot in places(model):
        shapes = []

        def blank(module, args, output, slot=slot, shapes=shapes):
            items = [output] if slot.index is None else list(output)
            shapes.append(tuple(slot.format.split(items[slot.index or 0])[0].shape))
            items[slot.index or 0] = torch.zeros_like(items[slot.index or 0])
            return items[0] if slot.index is None else tuple(items)

        hook = model.get_submodule(slot.module).register_forward_hook(blank)
        with torch.no_grad():
            assert (model(x) - bare).abs().max() > 1e-6, slot.name
        hook.remove()
        (shape,) = shapes
        assert shape[1:] == (slot.channels, *slot.size)
        assert shape[0] in (2, 2 * SERIES)
    assert list(inspect.signature(type(model).forward).parameters)[1] == "x"


@pytest.mark.parametrize(
    ("name", "module"),
    [
        (name, module)
        for name in STEM_NAMES
        for module in TEMPORAL
        if name in KEEP_SERIES or 1 in library.module_spec(module).dims
    ],
)
def test_temporal_modules_in_every_slot_change_nothing_at_first(name, module):
    model, x = small(name, **SHALLOW.get(name, {})), window()
    plan = {slot.name: module for slot in places(model)}
    with torch.no_grad():
        assert torch.equal(nb.insert(model, plan, input_size=(LOOKBACK, SERIES))(x), model(x))
    torch.manual_seed(0)
    changed = nb.insert(model, plan, input_size=(LOOKBACK, SERIES), identity_init=False).train()
    out = changed(x)
    assert (out - model(x)).abs().max() > 1e-4
    out.square().sum().backward()
    assert all(p.grad is not None for p in changed.nasbench.parameters())


@pytest.mark.parametrize("name", sorted(KEEP_SERIES))
def test_a_module_of_one_dimension_gets_each_series_by_itself(name):
    *_, slot = places(small(name))
    assert slot.rows_are_series
    torch.manual_seed(0)
    built = building.build("gated_tcn", channels=slot.channels, dims=2, rowwise=True).eval()
    x = torch.randn(2, slot.channels, *slot.size)
    with torch.no_grad():
        out = built(x)
        for series in range(SERIES):
            assert torch.allclose(out[:, :, series], built.module(x[:, :, series]), atol=1e-6)
    mixed = nb.insert(small(name), {slot.name: "gated_tcn >> cbam"}, input_size=(LOOKBACK, SERIES))
    assert mixed(window()).shape[2] == SERIES
    with pytest.raises(PlanError, match="1-D"):  # rows of an image are no series
        nb.insert("test_resnet", {"stage1": "gated_tcn"}, input_size=(3, 32, 32))


@each_stem
def test_slots_have_two_dimensions_where_the_series_axis_is_kept(name):
    expected = (SERIES, 2) if name in KEEP_SERIES else (None, 1)
    for slot in places(small(name)):
        assert slot.dims == expected[1]
        assert expected[0] in (None, slot.size[0])


@each_stem
def test_costs_are_exact_and_proportional_to_the_batch(name):
    model = small(name, **SHALLOW.get(name, {}))
    one, two = (nb.measure(model, input_size=(LOOKBACK, SERIES), batch_size=b) for b in (1, 2))
    assert one.exact
    assert two.exact
    assert not one.unknown_ops
    assert (two.macs, two.activations) == (2 * one.macs, 2 * one.activations)
    assert one.params == sum(p.numel() for p in model.parameters())


@each_stem
def test_copies_and_weights(name):
    model, x = small(name), window()
    host = nb.insert(model, {next(iter(places(model))).name: "se"}, input_size=(LOOKBACK, SERIES))
    other = small(name, seed=1)
    other.load_state_dict(nb.bare_state_dict(host))  # strictly: no key more, none less
    assert set(model.state_dict()) < set(host.state_dict())
    with torch.no_grad():
        expected = model(x)
        for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), nb.remove(host), other):
            assert torch.equal(copied(x), expected)


@each_stem
def test_a_forecast_depends_on_its_own_window_alone_and_repeats(name):
    model, x = small(name), window(4)
    with torch.no_grad():
        together = model(x)
        assert torch.equal(model(x), together)
        torch.testing.assert_close(model(x[:1]), together[:1])
        torch.testing.assert_close(model(x.flip(0)), together.flip(0))


@each_stem
def test_half_precision_autocast(name):
    model, x = small(name).train(), window()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x)
    assert out.isfinite().all()
    out.float().square().sum().backward()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        half = model.eval()(x).float()
    assert (half - model(x)).abs().max() < 0.2 * model(x).abs().max() + 0.1


@each_stem
def test_compiled_and_exported(name):
    model, x = small(name, **SHALLOW.get(name, {})), window()
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(torch.compile(model, backend="eager")(x), expected)
        torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), expected)


@each_stem
def test_a_few_steps_of_training_lower_the_loss(name):
    model, x = small(name).train(), window(8)
    y = x[:, -HORIZON:] * 0.5 + 1
    optimiser = torch.optim.AdamW(model.parameters(), 5e-3)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@each_stem
def test_permuted_series(name):
    """Channel-independent stems permute their forecasts; in the others each series has a place of its own."""
    model, x, order = small(name), window(), [2, 0, 1]
    with torch.no_grad():
        if name not in CHANNEL_INDEPENDENT:
            for p in model.parameters():  # what is 1 or 0 for all series at first
                p.add_(0.1 * torch.randn_like(p))
        gap = (model(x[..., order]) - model(x)[..., order]).abs().max()
        changed = x.clone()
        changed[..., 0] += 1 + window(seed=2)[..., 0]
        heard = (model(changed) - model(x))[..., 1:].abs().max()
    if name in CHANNEL_INDEPENDENT:
        assert gap < 1e-5
        assert heard < 1e-5
    else:
        assert gap > 1e-3
        assert heard > 1e-5


@each_stem
def test_with_instance_normalisation_level_and_scale_come_back(name):
    if "instance_norm" not in inspect.signature(STEMS.get(name)).parameters:
        assert name == "dlinear"  # linear: it follows scale without
        return
    x = window()
    with torch.no_grad():
        follows = small(name, instance_norm=True)
        torch.testing.assert_close(follows(3 * x + 10), 3 * follows(x) + 10, rtol=1e-3, atol=1e-3)
        without = small(name, instance_norm=False)
        assert (without(3 * x + 10) - (3 * without(x) + 10)).abs().max() > 0.1


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
    assert "Without a model" in text
    assert "last value" in text or "last_value" in text
