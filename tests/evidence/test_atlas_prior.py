"""Expected effects of modules: values by hand for one and two groups, and what they do where groups disagree."""

import numpy as np
import pandas as pd
import pytest

from nasbench.evidence.atlas_prior import Setting, best_row, distance, expected_effects

NAMES = ("se", "eca", "cbam", "sk", "cot", "caa")


def rows(host, data, differences, *, half=0.0196, slots="same", dims=2):
    """Rows of one group: `differences` by module, each with an interval of `half` on both sides."""
    return pd.DataFrame(
        {
            "module": list(differences), "dims": dims, "host": host, "data": data, "slots": slots, "protocol": "p",
            "difference": list(differences.values()), "low": [d - half for d in differences.values()],
            "high": [d + half for d in differences.values()],
        }
    )  # fmt: skip


def test_one_group_by_hand():
    # differences -0.03, -0.01, 0.01, 0.03: variance 0.002 / 3, unit 0.025820
    # y = -1.16190, -0.38730, 0.38730, 1.16190; e = 0.0196 / 1.959964 / 0.025820 = 0.38731, e² = 0.15001
    # v = mean(y²) - e² = 0.75 - 0.15001 = 0.59999; rho = 0.5 a priori, and one group tells nothing of it
    # other family, data and slots: distance 2, r = 0.25 (and r = 0.5 ** 0.5 for the same host and data)
    atlas = rows("test_resnet", "digits", dict(zip(NAMES, (-0.03, -0.01, 0.01, 0.03), strict=False)))
    far = expected_effects(atlas, "vit_tiny", "cifar10", 2)
    assert list(far) == ["cbam", "eca", "se", "sk"]
    shrunk = 0.59999 / (0.59999 + 0.15001)
    assert far["sk"].mean == pytest.approx(0.25 * shrunk * 1.16190, rel=1e-3)
    assert far["se"].mean == pytest.approx(-far["sk"].mean)
    assert far["sk"].error == pytest.approx((0.59999 * (1 - 0.25**2 * shrunk)) ** 0.5, rel=1e-3)
    near = expected_effects(atlas, "test_resnet", "digits", 2)
    assert near["sk"].mean == pytest.approx(0.5**0.5 * shrunk * 1.16190, rel=1e-3)
    kin = expected_effects(atlas, "resnet50", "digits", 2)
    assert far["sk"].mean < kin["sk"].mean < near["sk"].mean
    assert expected_effects(atlas, "test_resnet", "digits", 1) == {}


def test_rows_that_agree_are_believed_and_rows_that_do_not_are_not():
    rng = np.random.default_rng(0)
    modules = [f"m{k}" for k in range(40)]
    true = dict(zip(modules, rng.normal(0, 0.02, 40), strict=True))
    other = dict(zip(modules, rng.normal(0, 0.02, 40), strict=True))

    def spread(second):
        atlas = pd.concat([rows("a", "x", true, half=0.004), rows("b", "y", second, half=0.004)])
        effects = expected_effects(atlas, "c", "z", 2)
        return np.std([one.mean for one in effects.values()]), np.mean([one.error for one in effects.values()])

    (agree, sure), (differ, unsure) = spread(true), spread(other)
    assert agree > 3 * differ
    assert sure < unsure


def test_differences_within_their_errors_are_expected_nowhere():
    small = rows("a", "x", dict(zip(NAMES, (-0.001, 0.001, -0.001, 0.001, 0.0, 0.0), strict=True)), half=0.01)
    assert expected_effects(small, "a", "x", 2) == {}
    few = rows("a", "x", {"se": 0.1, "eca": 0.2, "sk": 0.3})  # three modules are too few for a unit
    assert expected_effects(few, "a", "x", 2) == {}
    assert expected_effects(rows("a", "x", dict.fromkeys(NAMES, 0.1)), "a", "x", 2) == {}
    assert expected_effects(small.iloc[:0], "a", "x", 2) == {}


def test_a_module_that_did_not_train_does_not_hide_the_others():
    # quartiles 0.00125, 0.0075, 0.01375: it is cut at 0.0075 - 3 * 0.0125 = -0.03, whatever it was
    group = dict(zip(NAMES, (-0.9, 0.0, 0.01, 0.02, 0.015, 0.005), strict=True))
    atlas = rows("a", "x", group)
    cut = rows("a", "x", group | {"se": -0.03})
    told, same = (expected_effects(frame, "a", "x", 2) for frame in (atlas, cut))
    assert told["sk"].mean == pytest.approx(same["sk"].mean)


def test_rows_without_an_interval_are_left_out():
    atlas = rows("a", "x", dict(zip(NAMES, (-0.03, -0.01, 0.01, 0.03, 0.05, 0.02), strict=True)))
    atlas.loc[atlas["module"] == "sk", "low"] = np.nan
    assert "sk" not in expected_effects(atlas, "a", "x", 2)


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("test_resnet", "resnet"), ("resnet18.a1_in1k", "resnet"), ("tf_efficientnet_b0", "efficientnet"),
        ("test_vit2", "vit"), ("patchtst", "patchtst"), ("a/resnet.py:build", "resnet.py:build"),
    ],
)  # fmt: skip
def test_family(host, family):
    assert Setting(host, "digits").family == family


def test_distances_give_covariances():
    hosts, data, slots = ("test_resnet", "resnet18", "vit_tiny", "patchtst"), ("a", "b", "c"), ("same", "stage1", "")
    every = [Setting(h, d, s) for h in hosts for d in data for s in slots]
    table = np.array([[distance(a, b) for b in every] for a in every])
    assert (np.diag(table) == 0).all()
    for rho in (0.025, 0.5, 0.975):
        assert np.linalg.eigvalsh(rho**table).min() > 0


def test_the_nearest_row_of_a_module():
    atlas = pd.concat(
        [
            rows("vit_tiny", "x", {"se": 0.1}, half=0.001), rows("resnet50", "y", {"se": 0.2}),
            rows("resnet50", "x", {"se": 0.3}), rows("resnet50", "x", {"se": 0.4}, slots="stage1", half=0.001),
        ]
    )  # fmt: skip
    assert best_row(atlas, "se", "test_resnet", "x", 2)["difference"] == 0.3
    assert best_row(atlas, "se", "vit_tiny", None, 2)["difference"] == 0.1
    assert best_row(atlas, "eca", "resnet50", "x", 2) is None
    assert best_row(atlas, "se", "resnet50", "x", 1) is None
