"""What every stem must do that classifies series; then padded steps, and the oracles of inception_time and resnet1d."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import nasbench as nb
from nasbench.backbones import STEMS, create_backbone, stems_for, takes_padding
from nasbench.errors import BackboneError
from nasbench.ops.series import shortened
from nasbench.ops.valid_steps import StepNorm, max_pool_valid, mean_valid, split_padding

CLASSIFIERS = sorted(stems_for("num_classes"))
PADDED = sorted(stems_for("padded"))
STEPS, SERIES, CLASSES = 26, 3, 5

each_classifier = pytest.mark.parametrize("name", CLASSIFIERS)
each_padded = pytest.mark.parametrize("name", PADDED)


def small(name, steps=STEPS, **given):
    torch.manual_seed(0)
    return create_backbone(name, input_size=(steps, SERIES), num_classes=CLASSES, **given).eval()


def items(batch=4, steps=STEPS):
    return torch.randn(batch, steps, SERIES, generator=torch.Generator().manual_seed(1))


def test_every_stem_classifies_and_some_leave_padding_out():
    assert set(CLASSIFIERS) == set(STEMS)
    assert PADDED == ["inception_time", "resnet1d", "ts2vec"]
    assert takes_padding("resnet1d")
    assert not takes_padding("patchtst")
    assert not takes_padding("resnet18")
    for name, given, words in (
        ("resnet1d", {"horizon": 4}, "does not forecast; backbones that do: .*patchtst"),
        ("patchtst", {"horizon": 4, "num_classes": 2}, "not both"),
        ("patchtst", {"num_classes": 2, "padded": True}, "inception_time, resnet1d, ts2vec"),
        ("ts2vec", {"horizon": 4, "padded": True}, "padded"),
    ):
        with pytest.raises((BackboneError, TypeError), match=words):
            create_backbone(name, input_size=(8, 2), **given)


@each_classifier
@pytest.mark.parametrize(("steps", "series", "classes"), [(8, 8, 10), (1, 1, 2), (7, 2, 3), (150, 1, 2), (100, 6, 4)])
def test_any_number_of_steps_series_and_classes(name, steps, series, classes):
    model = create_backbone(name, input_size=(steps, series), num_classes=classes)
    out = model(torch.randn(3, steps, series))
    assert out.shape == (3, classes)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@each_classifier
def test_modules_in_every_slot_start_as_identity_and_reach_the_logits(name):
    model, x = small(name), items()
    places = {slot.module: slot for slot in nb.slots(model, input_size=(STEPS, SERIES))}.values()
    assert places
    for slot in (next(iter(places)), list(places)[-1]):
        plan = {slot.name: "se"}
        with torch.no_grad():
            assert torch.equal(nb.insert(model, plan, input_size=(STEPS, SERIES))(x), model(x)), slot.name
            torch.manual_seed(0)
            changed = nb.insert(model, plan, input_size=(STEPS, SERIES), identity_init=False).eval()
            assert (changed(x) - model(x)).abs().max() > 1e-6, slot.name
    assert nb.measure(model, input_size=(STEPS, SERIES)).exact
    by_name = nb.insert(name, {places_name(places): "se"}, input_size=(STEPS, SERIES), num_classes=CLASSES)
    assert by_name(x).shape == (4, CLASSES)


def places_name(places):
    return next(iter(places)).name


@each_padded
def test_padded_steps_count_in_no_norm_and_no_pool(name):
    """Lengthening the padding changes neither the logits nor, in training, the statistics of the norms."""
    lengths, long = (9, 14, 20, 20), 20
    x = items(steps=long)
    for item, length in zip(x, lengths, strict=True):
        item[length:] = float("nan")
    longer = F.pad(x, (0, 0, 0, 17), value=float("nan"))
    # one model for both, because a stem shortens its kernels to the lookback
    model = small(name, steps=long, padded=True)
    with torch.no_grad():
        assert torch.allclose(model(x), model(longer), atol=1e-5)
        single = model(x[:1, :9])  # and an item alone, without its padding
        assert torch.allclose(model(x)[:1], single, atol=1e-5)
    one, two = model.train(), copy.deepcopy(model).train()
    torch.manual_seed(0)
    first = one(x)
    torch.manual_seed(0)
    assert torch.allclose(first, two(longer), atol=1e-4)
    for key, value in one.state_dict().items():
        assert torch.allclose(value.float(), two.state_dict()[key].float(), atol=1e-5), key
    first.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in one.parameters())


@each_padded
def test_without_padding_the_padded_model_is_the_other(name):
    plain, padded = small(name), small(name, padded=True)
    x = items()
    assert torch.allclose(plain(x), padded(x), atol=1e-5)
    torch.manual_seed(0)
    one = plain.train()(x)
    torch.manual_seed(0)
    assert torch.allclose(one, padded.train()(x), atol=1e-4)
    for key, value in plain.state_dict().items():
        assert torch.allclose(value.float(), padded.state_dict()[key].float(), atol=1e-5), key


@each_padded
def test_what_a_module_writes_into_padded_steps_is_not_read(name):
    x = items()
    x[0, 10:] = float("nan")
    model = small(name, padded=True)
    bare = model(x)
    slot = [s for s in nb.slots(model, input_size=(STEPS, SERIES)) if s.layout == "NCL"][-1]

    def spoil(module, args, output):
        return torch.cat([torch.cat([output[:1, :, :10], output[:1, :, 10:] + 1e3], 2), output[1:]])

    hook = model.get_submodule(slot.module).register_forward_hook(spoil)
    assert torch.allclose(model(x), bare, atol=1e-4)
    hook.remove()


def test_the_norm_of_valid_steps_by_hand():
    """The valid values 1, 2, 3, 6 have mean 3 and variance 3.5; unbiased 14/3."""
    x = torch.tensor([[[1.0, 2.0, 3.0]], [[6.0, 100.0, 100.0]]])
    valid = torch.tensor([[[True, True, True]], [[True, False, False]]])
    norm = StepNorm(1, eps=0.0)
    out = norm(x, valid)
    assert torch.allclose(out[0, 0], (x[0, 0] - 3) / 3.5**0.5)
    assert float(norm.running_mean) == pytest.approx(0.3)
    assert float(norm.running_var) == pytest.approx(0.9 + 0.1 * 14 / 3)
    assert int(norm.num_batches_tracked) == 1
    whole, ordinary = StepNorm(1), torch.nn.BatchNorm1d(1)
    assert torch.allclose(whole(x, torch.ones_like(valid)), ordinary(x), atol=1e-6)
    assert torch.allclose(whole.running_var, ordinary.running_var)


def test_pools_of_valid_steps_by_hand():
    x = torch.tensor([[[1.0, -5.0, -2.0, 9.0]]])
    valid = torch.tensor([[[True, True, True, False]]])
    assert mean_valid(x, valid).tolist() == [[-2.0]]
    assert max_pool_valid(x, valid, 3).tolist() == [[[1.0, 1.0, -2.0, 0.0]]]
    values, mask = split_padding(torch.tensor([[[1.0, 2.0], [float("nan"), 3.0]]]))
    assert values.tolist() == [[[1.0, 2.0], [0.0, 0.0]]]
    assert mask.tolist() == [[[True, False]]]


def test_short_series_have_short_kernels_and_say_so():
    assert create_backbone("inception_time", input_size=(8, 8), num_classes=10).shortened == (
        "inception_time: kernels (40, 20, 10) becomes (8, 4, 2), because a series has 8 steps"
    )
    assert create_backbone("inception_time", input_size=(40, 8), num_classes=10).shortened == ""
    assert "patch 16 becomes 2, stride 8 becomes 1" in small("patchtst", steps=8).shortened
    assert "dilations (1, 2, 4) becomes (1,)" in small("mtgnn", steps=8).shortened
    assert create_backbone("patchtst", input_size=(8, 8), horizon=2).shortened == ""
    assert shortened("a", 1, b=(2, 2)) == ""


def test_inception_time_has_the_parameters_of_its_definition():
    """Each module: three convolutions, the one after the pool, a bottleneck unless there is one series, and a norm."""
    taps = 40 + 20 + 10

    def module(channels):
        narrow = 32 if channels > 1 else 1
        return (32 * channels if channels > 1 else 0) + taps * narrow * 32 + 32 * channels + 2 * 128

    def total(series):
        shortcuts = 128 * series + 2 * 128 + 128 * 128 + 2 * 128
        return module(series) + 5 * module(128) + shortcuts + 129 * 10

    for series in (1, 6):
        model = create_backbone("inception_time", input_size=(100, series), num_classes=10)
        assert sum(p.numel() for p in model.parameters()) == total(series)
        assert not any(m.bias is not None for m in model.modules() if isinstance(m, torch.nn.Conv1d))


def test_an_inception_module_by_hand():
    torch.manual_seed(0)
    model = create_backbone("inception_time", input_size=(50, 1), num_classes=2).eval()
    block = model.stages[0].blocks[0]
    x = torch.randn(1, 1, 50)
    with torch.no_grad():
        out = block(x, None)
    signal = x[0, 0].numpy()
    for branch, kernel in enumerate((40, 20, 10)):
        left = (kernel - 1) // 2
        padded = np.pad(signal, (left, kernel - 1 - left))
        taps = block.convs[branch].weight[0, 0].detach().numpy()
        # torch's convolution is a correlation
        expected = np.correlate(padded, taps, mode="valid") / np.sqrt(1 + 1e-5)
        assert np.allclose(out[0, 32 * branch].numpy(), np.maximum(expected, 0), atol=1e-5)
    highest = np.max([np.r_[-np.inf, signal[:-1]], signal, np.r_[signal[1:], -np.inf]], axis=0)
    expected = highest * float(block.after_pool.weight[0, 0, 0].detach()) / np.sqrt(1 + 1e-5)
    assert np.allclose(out[0, 96].numpy(), np.maximum(expected, 0), atol=1e-5)


def test_resnet1d_has_the_parameters_of_its_definition():
    def block(channels, width):
        convs = sum(kernel * ins * width + width for kernel, ins in ((8, channels), (5, width), (3, width)))
        return convs + 6 * width + ((channels + 1) * width + 2 * width if channels != width else 0)

    model = create_backbone("resnet1d", input_size=(150, 2), num_classes=7)
    expected = block(2, 64) + block(64, 128) + block(128, 128) + 129 * 7
    assert sum(p.numel() for p in model.parameters()) == expected
    assert [s.name for s in nb.slots(model, (150, 2)) if "block" not in s.name] == ["stage1", "stage2", "stage3"]


def test_ts2vec_pools_its_representation_by_the_maximum():
    model, x = small("ts2vec"), items()
    with torch.no_grad():
        steps = model._encode(x, None)
        assert torch.allclose(model(x), model.head(steps.max(dim=2).values))


def test_dlinear_is_linear_in_seasonal_part_and_trend():
    model, x = small("dlinear"), items()
    with torch.no_grad():
        zero = model(torch.zeros_like(x))
        assert torch.allclose(model(2 * x) - zero, 2 * (model(x) - zero), atol=1e-5)
