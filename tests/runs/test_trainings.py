"""The trainings of a run as the statistics read them, and the weights that are kept of them."""

import numpy as np
import pytest
import torch
from safetensors.torch import save
from support.recorded_run import Recorder

from nasbench.runs.trainings import trainings_of

SE = {"stage1": "se"}


@pytest.fixture
def recorder(tmp_path):
    """The bare backbone and one plan on three seeds each, with a standard deviation of 0.01."""
    recorder = Recorder(tmp_path / "r")
    for seed, shift in enumerate((-0.01, 0.0, 0.01)):
        recorder.add(None, 0.90 + shift, seed)
        recorder.add(SE, 0.95 + shift, seed)
    return recorder


def test_a_noisy_control_does_not_take_a_verdict_back(recorder):
    before = recorder.run.finalists().set_index("plan")
    recorder.add_control(SE, {"stage1": "bottleneck(width=1)"}, (0.6, 0.8, 1.0))
    after = recorder.run.finalists().set_index("plan")
    columns = ["difference_low", "difference_high", "verdict", "p_better"]
    assert after[columns].equals(before[columns])
    assert after["verdict"].tolist() == ["BARE", "BETTER"]
    recorded = trainings_of(recorder.run)
    assert recorded.noise.seed_variance == pytest.approx(0.01**2)
    # This control is far below the bare backbone. So its comparison has the noise of the plan's seeds and its own:
    # s² = (2 · 0.01² + 2 · 0.2²) / 4 = 0.02005, t(.975, 4) = 2.776, and 2.776 · √(s² · 2/3) = 0.321.
    assert recorded.noise_with_controls.seed_variance == pytest.approx(0.01**2)
    row = after.iloc[1]
    assert row["control_difference_low"] == pytest.approx(0.15 - 0.321, abs=5e-4)
    assert row["control_difference_high"] == pytest.approx(0.15 + 0.321, abs=5e-4)


def test_the_noise_of_a_control_that_is_not_far_below_is_pooled(recorder):
    recorder.add_control(SE, {"stage1": "bottleneck(width=1)"}, (0.88, 0.9, 0.92))
    # four degrees of freedom at 0.01², two at 0.02²
    assert trainings_of(recorder.run).noise_with_controls.seed_variance == pytest.approx(
        (4 * 0.01**2 + 2 * 0.02**2) / 6
    )


def test_stored_weights_say_their_seed(recorder):
    folder = recorder.run.folder
    folder.save_weights(0, save({"w": torch.zeros(2)}))
    folder.save_weights(1, save({"w": torch.zeros(2)}, {"seed": "3"}))
    folder.save_weights(2, b"nothing")
    assert [folder.weights_seed(number) for number in range(4)] == [None, 3, None, None]
    assert folder.stored_weights == {0, 1, 2}


def test_the_bare_backbone_is_not_among_the_plans(recorder):
    recorded = trainings_of(recorder.run)
    assert [plan.plan.text for plan in recorded.plans] == ['{"stage1": "se"}']
    assert recorded.bare.trainings.seeds == 3
    assert np.allclose(recorded.standing.difference, 0.05)
