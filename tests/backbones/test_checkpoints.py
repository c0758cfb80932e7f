"""Weights as other tools store them, and functions that build a backbone wrongly."""

import warnings

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from nasbench.backbones import create_backbone
from nasbench.backbones.insertion import insert
from nasbench.errors import BackboneError


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return create_backbone("test_resnet", num_classes=5).eval()


@pytest.fixture(scope="module")
def other():
    torch.manual_seed(1)
    return create_backbone("test_resnet", num_classes=5).eval()


class Lightning(nn.Module):
    """A training module as users of Lightning write it: the network, a loss with weights, a metric."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.loss = nn.CrossEntropyLoss(weight=torch.ones(5))


def same(model, net):
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        return torch.equal(model(x), net(x))


def lightning(net, other):
    whole = {"epoch": 3, "pytorch-lightning_version": "2.5.0", "loops": {}, "hyper_parameters": {"lr": 0.1}}
    return whole | {"state_dict": Lightning(net).state_dict()}


FILES = {  # how it is written, from the network and other weights, and what the message says
    "lightning": (lightning, r"the entry 'state_dict', names without the prefix 'model\.', 1 other entries left out"),
    "lightning-compiled": (
        lambda net, _: {"state_dict": Lightning(torch.compile(net)).state_dict()},
        r"names without the prefix 'model\.'",
    ),
    "ddp": (lambda net, _: {f"module.{k}": v for k, v in net.state_dict().items()}, r"the prefix 'module\.'"),
    "compiled-ddp": (
        lambda net, _: {"model": {f"module._orig_mod.{k}": v for k, v in net.state_dict().items()}},
        r"the entry 'model', names without the prefix 'module\.'",
    ),
    "averaged": (lambda net, _: AveragedModel(net).state_dict(), r"the prefix 'module\.', 1 other entries left out"),
    "timm-ema": (
        lambda net, other: {"state_dict": other.state_dict(), "state_dict_ema": net.state_dict()},
        "the entry 'state_dict_ema'",
    ),
    "ema": (
        lambda net, other: {
            "model": other.state_dict(),
            "model_ema": {f"module.{k}": v for k, v in net.state_dict().items()},
        },
        r"the entry 'model_ema', names without the prefix 'module\.'",
    ),
    "lightning-ema": (
        lambda net, other: {"state_dict": nn.ModuleDict({"net": other, "ema_net": net}).state_dict()},
        r"names without the prefix 'ema_net\.'",
    ),
}


@pytest.mark.parametrize("written", FILES)
def test_what_wraps_the_weights_is_understood_and_said(written, net, other, tmp_path):
    write, said = FILES[written]
    torch.save(write(net, other), tmp_path / "last.ckpt")
    with pytest.warns(UserWarning, match=said):
        model = create_backbone("test_resnet", num_classes=5, checkpoint=tmp_path / "last.ckpt").eval()
    assert same(model, net)


def test_plain_and_compiled_weights_need_no_words(net, tmp_path):
    torch.save(net.state_dict(), tmp_path / "plain.pt")
    torch.save(torch.compile(net).state_dict(), tmp_path / "compiled.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for file in ("plain.pt", "compiled.pt"):
            assert same(create_backbone("test_resnet", num_classes=5, checkpoint=tmp_path / file).eval(), net)


def test_with_a_neck(net, tmp_path):
    torch.save(lightning(net, None), tmp_path / "last.ckpt")
    with pytest.warns(UserWarning, match="prefix"):
        model = insert(
            "test_resnet", "none", input_size=(3, 64, 64), neck="fpn", num_classes=5, checkpoint=tmp_path / "last.ckpt"
        )
    assert torch.equal(model.backbone.state_dict()["conv1.0.weight"], net.state_dict()["conv1.0.weight"])
    assert "state_dict" not in (getattr(model.backbone, "pretrained_cfg", None) or {})


def test_weights_of_two_networks_are_refused(net, other, tmp_path):
    # Before, the shorter prefix won without a word.
    def load(**states):
        file = tmp_path / "c.pt"
        torch.save({"state_dict": {f"{name}.{k}": v for name, s in states.items() for k, v in s.items()}}, file)
        return create_backbone("test_resnet", num_classes=5, checkpoint=file).eval()

    with pytest.raises(BackboneError, match=r"two networks that fit, under 'student\.' and 'teacher\.'; save the one"):
        load(teacher=net.state_dict(), student=other.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert same(load(model=other.state_dict(), model_ema=net.state_dict()), net)
        assert same(load(net=net.state_dict(), model=net.state_dict()), net)  # one network with two names


def test_weights_that_are_not_numbers_are_refused(net, tmp_path):
    state = {k: v.clone() for k, v in net.state_dict().items()}
    name = list(state)[3]
    state[name].view(-1)[0] = float("nan")
    torch.save(state, tmp_path / "c.pt")
    with pytest.raises(BackboneError, match=rf"c.pt: the weights {name!r} contain NaN"):
        create_backbone("test_resnet", num_classes=5, checkpoint=tmp_path / "c.pt")


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({"state_dict": Lightning(nn.Linear(3, 5)).state_dict()}, tmp_path / "last.ckpt")
    with (
        pytest.warns(UserWarning, match="state_dict"),
        pytest.raises(BackboneError, match="weights of another network"),
    ):
        create_backbone("test_resnet", checkpoint=tmp_path / "last.ckpt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(BackboneError, match="contains a Tensor, not a state dict"):
        create_backbone("test_resnet", checkpoint=tmp_path / "tensor.pt")


class TestBuild:
    """A function of the user's that builds a backbone."""

    def build(self, tmp_path, body, **given):
        file = tmp_path / "own.py"
        file.write_text("from torch import nn\n\n\n" + body)
        return create_backbone(f"{file}:build", input_size=(3, 8, 8), **given)

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("def build():\n    width = 4\n    raise KeyError('width')\n", r"own\.py:6: .*cannot be built: KeyError"),
            ("def build():\n    return nn.Conv2d(0, 4, -1).nothing\n", r"own\.py:5: .*cannot be built"),
            ("def build(width, num_classes=3):\n    return 1\n",
             r"own\.py:4: .*needs width, but it is called with num_classes: width is never given\. .*input_size, num"),
            ("def build(width, horizon):\n    return 1\n",
             r"own\.py:4: .*needs width, horizon, but it is called with no argument: width is never given; horizon is"),
            ("def build(num_classes, /):\n    return 1\n", r"own\.py:4: .*needs num_classes"),
            ("def build():\n    nn.Linear(2, 2)\n", r"own\.py:4: .*returned None, not an nn\.Module.*return model"),
            ("def build():\n    return nn.Linear(2, 2), 3\n", r"own\.py:4: .*returned \(Linear.*, not an nn\.Module"),
        ],
    )  # fmt: skip
    def test_the_error_names_file_and_line(self, tmp_path, body, message):
        with pytest.raises(BackboneError, match=message):
            self.build(tmp_path, body, num_classes=5)

    @pytest.mark.parametrize(
        ("parameters", "expected"),
        [
            ("num_classes", {"num_classes": 5}),
            ("width=4, *, input_size", {"input_size": (3, 8, 8)}),
            ("**kwargs", {"input_size": (3, 8, 8), "num_classes": 5}),
            ("*args, horizon=7", {}),
        ],
    )
    def test_the_arguments_are_those_that_it_names(self, tmp_path, parameters, expected):
        names = "kwargs" if "kwargs" in parameters else "{" + ", ".join(f"'{n}': {n}" for n in expected) + "}"
        model = self.build(
            tmp_path,
            f"def build({parameters}):\n    net = nn.Identity()\n    net.given = {names}\n    return net\n",
            num_classes=5,
        )
        assert model.given == expected
