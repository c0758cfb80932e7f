import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from nasbench.errors import ExpressionError, UnknownNameError, UnsupportedError
from nasbench.library.building import build
from nasbench.library.expression import NONE, Fused, Series, parse


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("se", "se"),
        ("se()", "se"),
        ("se(reduction=16)", "se"),
        ("se(reduction=4)", "se(reduction=4)"),
        ("none", "none"),
        ("none >> none", "none"),
        ("se >> none >> eca", "se >> eca"),
        ("se >> (eca >> cbam)", "se >> eca >> cbam"),
        ("(se >> eca) >> cbam", "se >> eca >> cbam"),
        ("se + eca", "eca + se"),
        ("(se + eca) + cbam", "cbam + eca + se"),
        ("add(se, eca)", "eca + se"),
        ("se >> eca + cbam", "se >> cbam + eca"),
        ("(se >> eca) + cbam", "cbam + (se >> eca)"),
        ("se + none", "none + se"),
        ("gate(se, eca)", "gate(se, eca)"),
        ("gate(eca, se)", "gate(eca, se)"),
        ("select(se, eca, cbam)", "select(cbam, eca, se)"),
        ("sk(kernels=[3, 5])", parse("sk(kernels=(3, 5))").canonical()),
        ("timm/eca >> se", "timm/eca >> se"),
        ("self_attention(heads=None)", "self_attention"),
    ],
)
def test_canonical_form(text, canonical):
    assert parse(text).canonical() == canonical
    assert parse(canonical) == parse(text)
    assert parse(canonical).hash == parse(text).hash


def test_precedence_is_pythons():
    assert parse("se >> eca + cbam") == parse("se >> (eca + cbam)") != parse("(se >> eca) + cbam")


def test_hash_is_stable_between_releases():
    """A changed hash would orphan every recorded evaluation."""
    assert parse("eca >> se(reduction=4)").hash == "1af492f405c6f4f1"
    assert parse("se").hash != parse("eca").hash


@pytest.mark.parametrize(
    ("text", "position", "word"),
    [
        ("se >>", None, "malformed"),
        ("", None, "empty"),
        ("se(4)", 3, "expected a module name"),
        ("se(eca)", 0, "not a fusion"),
        ("gate(se)", 0, "at least 2"),
        ("gate(se, eca, cbam)", 0, "exactly 2"),
        ("se - eca", 0, "expected"),
        ("se >> [eca]", 6, "expected"),
        ("se.forward", 0, "expected"),
        ("none(3)", 0, "takes no arguments"),
        ("None", 0, "none"),
        ("se(**eca)", 5, "not allowed in an expression"),
        ("se(reduction=eca)", 13, "hyper-parameter is a number"),
        ("se(reduction={1})", 13, "cannot be"),
        ("lambda: 1", 0, "expected"),
        ("se >> fpn", 6, "neck"),
        ("fcn + se", 0, "head"),
    ],
)
def test_malformed_text_names_the_position(text, position, word):
    with pytest.raises(ExpressionError, match=word) as caught:
        parse(text)
    if position is not None:
        assert caught.value.position == position
        assert f"column {position + 1}" in str(caught.value)
        assert caught.value.exit_code == 4


def test_position_counts_characters_not_bytes():
    with pytest.raises(ExpressionError) as caught:
        parse("ä >> [eca]", {"ä": parse("se")})
    assert caught.value.position == "ä >> [eca]".index("[")


@pytest.mark.parametrize(
    "text", ["__import__('os').system('true')", "(lambda: 0)()", "[].__class__", "eval('1')", "open('x')", "f'{1}'"]
)
def test_user_text_is_never_evaluated(text, monkeypatch):
    monkeypatch.setattr("builtins.__import__", __import__)
    with pytest.raises((ExpressionError, UnknownNameError)):
        parse(text)


def test_too_long_and_too_deep_text_is_refused_quickly():
    with pytest.raises(ExpressionError, match="characters"):
        parse("se >> " * 5000 + "se")
    with pytest.raises(ExpressionError):
        parse("(" * 300 + "se" + ")" * 300)
    deep = "se"
    for _ in range(60):
        deep = f"gate({deep}, se)"
    with pytest.raises(ExpressionError, match="deep"):
        parse(deep)


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        parse("simclrr")
    assert "simclr'" not in str(caught.value), "a pretext goes into no plan"
    with pytest.raises(UnknownNameError, match="did you mean 'se'"):
        parse("sse")
    with pytest.raises(UnknownNameError, match="'reduction'"):
        parse("se(reductoin=3)")


LEAVES = st.sampled_from(["none", "se", "se(reduction=4)", "eca", "dual_pool", "mixconv(kernels=(3, 5, 7))"])
TEXTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: f"({p[0]}) >> ({p[1]})"),
        st.tuples(inner, inner).map(lambda p: f"({p[0]}) + ({p[1]})"),
        st.tuples(inner, inner).map(lambda p: f"gate({p[0]}, {p[1]})"),
        st.lists(inner, min_size=2, max_size=4).map(lambda p: f"select({', '.join(p)})"),
    ),
    max_leaves=8,
)


@given(TEXTS)
@settings(max_examples=150, deadline=None)
def test_canonical_text_parses_to_itself(text):
    expression = parse(text)
    again = parse(expression.canonical())
    assert again == expression
    assert again.canonical() == expression.canonical()


@given(TEXTS)
@settings(max_examples=15, deadline=None)
def test_every_expression_builds_and_keeps_the_shape(text):
    with torch.device("meta"):
        module = build(text, channels=8, dims=2)
        assert module(torch.empty(2, 8, 5, 6)).shape == (2, 8, 5, 6)


def test_operators_compute_what_they_say():
    torch.manual_seed(0)
    x = torch.randn(2, 8, 4, 4)
    total = build("se + eca", channels=8, dims=2).eval()
    first, second = total.branches
    torch.testing.assert_close(total(x), first(x) + second(x))
    series = build("se >> eca", channels=8, dims=2).eval()
    torch.testing.assert_close(series(x), series[1](series[0](x)))
    assert torch.equal(build("none", channels=8, dims=2)(x), x)


def test_structure():
    assert parse("none") == NONE
    assert isinstance(parse("se >> eca"), Series)
    fused = parse("gate(se, eca >> cbam)")
    assert isinstance(fused, Fused)
    assert [leaf.name for leaf in fused.leaves()] == ["se", "eca", "cbam"]
    assert parse("none").starts_as_identity
    assert not parse("se").starts_as_identity
    assert parse("channel_attention").starts_as_identity
    assert not parse("channel_attention + channel_attention").starts_as_identity  # 2x, not x
    assert parse("gate(channel_attention, none)").starts_as_identity


def test_a_module_that_cannot_serve_the_slot_says_so():
    with pytest.raises(UnsupportedError, match="serves 2-D"):
        build("cbam", channels=8, dims=1)
    with pytest.raises(UnsupportedError):
        build("self_attention(heads=3)", channels=8, dims=2)
