"""Zero-cost proxies against values worked out by hand, and as a gate of the ladder."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nasbench as nb
from nasbench.backbones import create_backbone, slots
from nasbench.errors import EvaluationError, InputError, UnknownNameError
from nasbench.library.plan import Plan
from nasbench.measurement.costs.plan_costs import PlanCosts
from nasbench.objectives import COSTS, parse_constraint
from nasbench.runs.models import ModelBuilder
from nasbench.study.evaluators.base import Request
from nasbench.study.evaluators.trained import TrainedEvaluator
from nasbench.tasks import create_task
from nasbench.training.proxies import PROXIES, naswot, score, synflow, zico


def batch(*rows):
    return [(torch.tensor(rows), torch.zeros(len(rows)))]


def linear(*weights):
    """Linear layers without bias, with these weights."""
    layers = []
    for weight in weights:
        matrix = torch.tensor(weight, dtype=torch.float32)
        layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
        layer.weight.data = matrix
        layers.append(layer)
    return layers


THREE = batch((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0))
"""Codes 11, 10, 01: K = [[2, 1, 1], [1, 2, 0], [1, 0, 2]], whose determinant is 4."""


def test_naswot_by_hand():
    assert naswot(nn.ReLU(), THREE) == pytest.approx(math.log(4))


def test_naswot_adds_up_layers():
    """The second ReLU sees the first one's output: codes 11, 10, 01 again, so K doubles and the determinant is 2³·4."""
    assert naswot(nn.Sequential(nn.ReLU(), nn.ReLU()), THREE) == pytest.approx(math.log(32))


@pytest.mark.parametrize(
    "activation",
    [
        *("ReLU", "ReLU6", "LeakyReLU", "PReLU", "Hardtanh"),
        *("GELU", "SiLU", "Hardswish", "ELU", "Mish", "SELU", "CELU", "Softplus"),
    ],
)
def test_naswot_sees_every_activation(activation):
    assert naswot(getattr(nn, activation)(), [(THREE[0][0].clone(), THREE[0][1])]) == pytest.approx(math.log(4))


def test_naswot_sees_functions_and_methods():
    class Written(nn.Module):
        def forward(self, x):
            return F.relu(x).relu_() + x.sigmoid()

    assert naswot(Written(), THREE) == pytest.approx(math.log(32))


def test_naswot_looks_inside_torchs_transformer_layer():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert math.isfinite(naswot(layer, [(torch.randn(7, 5, 8), torch.zeros(7))]))


def test_naswot_leaves_out_what_is_not_of_the_batch():
    class Biased(nn.Module):
        def forward(self, x):
            return torch.relu(x) + torch.relu(torch.ones(4, 1)).sum()

    assert naswot(Biased(), THREE) == pytest.approx(math.log(4))


@pytest.mark.parametrize(
    ("model", "rows", "words"),
    [
        (nn.Linear(2, 2), ((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0)), "no activation"),
        (nn.ReLU(), ((1.0, 1.0), (2.0, 2.0), (-1.0, 1.0)), "same code"),
    ],
)
def test_naswot_without_a_value_says_so(model, rows, words):
    with pytest.raises(EvaluationError, match=words) as caught:
        naswot(model, batch(*rows))
    assert caught.value.kind == "nan"


WEIGHTS = ([[1.0, -2.0], [0.5, 1.0]], [[3.0, -1.0]])
"""|W1| 1 = (3, 1.5), |W2| (3, 1.5) = 10.5; each layer's saliency sums to it."""


def test_synflow_by_hand():
    first, second = linear(*WEIGHTS)
    assert synflow(nn.Sequential(first, second), batch((1.0, 1.0))) == pytest.approx(math.log(2 * 10.5))


@pytest.mark.parametrize("between", [nn.ReLU(), nn.GELU(), nn.Tanh(), nn.Dropout(0.9)], ids=repr)
def test_synflow_takes_activations_for_the_identity(between):
    first, second = linear(*WEIGHTS)
    assert synflow(nn.Sequential(first, between, second), batch((1.0, 1.0))) == pytest.approx(math.log(21))


def test_synflow_keeps_of_norms_their_scale():
    """A layer norm is one layer more; of scale 2 it doubles what flows: 3 layers of 2·10.5."""
    first, second = linear(*WEIGHTS)
    norm = nn.LayerNorm(2)
    norm.weight.data.fill_(-2.0)
    assert synflow(nn.Sequential(first, norm, second), batch((1.0, 1.0))) == pytest.approx(math.log(3 * 21))
    batched = nn.BatchNorm1d(2, eps=0.0)
    batched.running_var.fill_(4.0)
    batched.running_mean.fill_(7.0)
    batched.bias.data.fill_(5.0)
    assert synflow(nn.Sequential(first, batched, second), batch((1.0, 1.0))) == pytest.approx(math.log(3 * 10.5 / 2))


def test_synflow_holds_gates_and_attention_constant():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.value, self.gate = linear(*WEIGHTS[:1], [[4.0, 4.0], [4.0, 4.0]])

        def forward(self, x):
            return self.value(x) * torch.sigmoid(self.gate(x) - 8.0)

    assert synflow(Gated(), batch((1.0, 1.0))) == pytest.approx(math.log(0.5 * 4.5))

    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            (self.value,) = linear(WEIGHTS[0])

        def forward(self, x):
            tokens = self.value(x)[:, None].expand(-1, 3, -1)
            return F.scaled_dot_product_attention(tokens * 1e6, tokens * 1e6, tokens)[:, 0]

    assert synflow(Attending(), batch((1.0, 1.0))) == pytest.approx(math.log(4.5))


def test_synflow_where_nothing_flows():
    (layer,) = linear([[0.0, 0.0]])
    with pytest.raises(EvaluationError, match="the flow is zero"):
        synflow(layer, batch((1.0, 1.0)))
    with pytest.raises(EvaluationError, match="float64"):
        synflow(nn.Sequential(*linear(*[[[1e30]]] * 12)), batch((1.0,)))


def mean(outputs, targets):
    return outputs.mean()


def test_zico_by_hand():
    """Gradients (-1, 2) and (3, 2): absolute means (2, 2), deviations (1, 0); the second entry does not vary."""
    model = linear([[1.0, 1.0]])[0]
    assert zico(model, batch((-1.0, 2.0)) + batch((3.0, 2.0)), mean) == pytest.approx(math.log(2.0))


def test_zico_sums_over_trained_weights():
    """A layer of weight 2 in front: its gradient is x, that of the last layer twice x; their ratios are alike."""
    model = nn.Sequential(*linear([[2.0]], [[1.0]]))
    batches = batch((1.0,)) + batch((3.0,))
    assert zico(model, batches, mean) == pytest.approx(2 * math.log(2.0))
    model[0].requires_grad_(False)
    assert zico(model, batches, mean) == pytest.approx(math.log(2.0))
    assert zico(model, batch((1.0,), (3.0,)), mean) == pytest.approx(math.log(2.0))  # one batch, cut in two
    with pytest.raises(EvaluationError, match="varies"):
        zico(model, batch((1.0,)) * 2, mean)


@pytest.fixture(scope="module")
def digits(small_data):
    return create_task("digits", size=32)


@pytest.fixture(scope="module")
def model(digits):
    torch.manual_seed(0)
    return create_backbone("test_resnet", input_size=digits.input_size, num_classes=10)


@pytest.mark.parametrize("name", list(PROXIES))
def test_a_score_is_repeatable_and_leaves_the_model_alone(name, model, digits):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    model.train()
    first = score(name, model, digits, seed=1)
    assert score(name, model.eval(), digits, seed=1) == first
    assert (score(name, model, digits, seed=2) == first) == (name == "synflow")  # which sees no data
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None and p.dtype == torch.float32 for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("name", list(PROXIES))
def test_forecasting_models_have_scores(name):
    task = create_task("co2")
    torch.manual_seed(0)
    stem = create_backbone("patchtst", input_size=task.input_size, **task.model_kwargs)
    assert math.isfinite(score(name, stem, task))


def test_what_is_not_a_number_is_no_score(digits):
    model = create_backbone("test_resnet", input_size=digits.input_size, num_classes=10)
    next(model.parameters()).data.fill_(float("nan"))
    for name in PROXIES:
        with pytest.raises(EvaluationError):
            score(name, model, digits)
    with pytest.raises(UnknownNameError, match="naswot"):
        score("naswott", model, digits)


@pytest.fixture(scope="module")
def evaluator(digits, model):
    size = digits.input_size
    return TrainedEvaluator(
        builder=ModelBuilder("test_resnet", size, digits.model_kwargs),
        task=digits,
        recipe=digits.recipe.with_settings({"epochs": 2}),
        plan_costs=PlanCosts(model, slots(model, size), input_size=size, identity_init=False),
        proxies=("naswot",),
    )


SE = Plan.of({"stage1": "se >> bottleneck"})


def test_the_ladder_records_proxies_twice(evaluator):
    evaluation = evaluator.evaluate(Request.of(SE, epochs=1))
    assert evaluation.state == "complete"
    assert evaluation.fidelity == 1
    assert set(evaluation.proxies) == {"naswot", "naswot_retest"}
    assert evaluation.proxies["naswot"] != evaluation.proxies["naswot_retest"]
    assert evaluation.values["naswot"] == evaluation.proxies["naswot"]
    untrained = evaluator.builder.build(SE, 0)
    assert evaluation.proxies["naswot"] == pytest.approx(score("naswot", untrained, evaluator.task, seed=0))


def test_a_longer_training_takes_over_what_the_gates_found(evaluator):
    """The constraint refuses every plan, but a plan that was trained before has passed the gates."""
    strict = replace(evaluator, constraints=[parse_constraint("naswot>=1e9", ["naswot"])])
    short = evaluator.evaluate(Request.of(SE, epochs=1))
    assert strict.evaluate(Request.of(SE, epochs=1)).state == "rejected"
    longer = strict.evaluate(Request.of(SE, before=short))
    assert (longer.state, longer.fidelity, len(longer.history)) == ("complete", 2, 2)
    assert (longer.costs, longer.proxies) == (short.costs, short.proxies)
    assert len(short.history) == 1
    # a schedule of its own length: it ends low, where the longer one is still high
    assert short.history[0]["learning_rate"] < longer.history[0]["learning_rate"]


def test_a_bound_on_a_proxy_rejects_with_its_reason(evaluator):
    bound = parse_constraint("naswot>=1.2x", [*COSTS, "naswot"])
    strict = replace(evaluator, constraints=[bound])
    bare = evaluator.evaluate(Request.of(Plan({}), epochs=1))
    refused = strict.evaluate(Request.of(SE, bare=bare.values))
    assert refused.state == "rejected"
    assert refused.reason.startswith("naswot ")
    assert "breaks naswot>=1.2x (limit" in refused.reason
    assert refused.proxies["naswot"] < 1.2 * bare.proxies["naswot"]
    assert refused.metrics == {}


def test_a_bounded_proxy_without_a_value_rejects_and_an_unbounded_one_does_not(evaluator, monkeypatch):
    def none(name, *args, **more):
        raise EvaluationError("naswot has no value: two items have the same code", kind="nan")

    monkeypatch.setattr("nasbench.training.proxies.score", none)
    found = evaluator.evaluate(Request.of(SE, epochs=1))
    assert (found.state, found.proxies) == ("complete", {})
    bound = replace(evaluator, constraints=[parse_constraint("naswot>=1", ["naswot"])])
    assert bound.evaluate(Request.of(SE, epochs=1)).reason == "naswot has no value: two items have the same code"


def test_a_relative_bound_on_a_negative_value():
    """0.9x of -10 lies a tenth of its size below it."""
    bound = parse_constraint("zico>=0.9x", ["zico"])
    assert bound.limit({"zico": -10.0}) == pytest.approx(-11.0)
    assert bound.holds(-10.5, {"zico": -10.0})
    assert bound.limit({"zico": 10.0}) == pytest.approx(9.0)


def test_modules_behind_closed_gates_are_scored_without_them(evaluator, tmp_path):
    """From loaded weights a plan starts as the bare backbone does; its score is that of the modules all the same."""
    from safetensors.torch import save_file

    weights = evaluator.builder.build(Plan({}), 0).state_dict()
    save_file({key: value.clone() for key, value in weights.items()}, tmp_path / "bare.safetensors")
    gated = replace(evaluator.builder, checkpoint=str(tmp_path / "bare.safetensors"), identity_init=True)
    loaded = replace(evaluator, builder=gated)
    assert loaded.identity_init
    scores = [loaded.evaluate(Request.of(plan, epochs=1)).proxies["naswot"] for plan in (Plan({}), SE)]
    assert scores[0] != scores[1]


def test_a_function_has_no_model_to_score(tmp_path):
    with pytest.raises(InputError, match="no model is built to score; leave out naswot"):
        nb.search(evaluate=lambda plan: {"score": 1.0}, objectives={"score": "maximize"}, proxies=["naswot"],
                  out=tmp_path / "r")  # fmt: skip
    assert not (tmp_path / "r").exists()
