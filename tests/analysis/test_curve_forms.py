import numpy as np
import pytest

from entigraph.analysis.paper import published
from entigraph.analysis.scaling.curve_forms import FORMS, Exponentials, LogLinear, corrected_aic

TOKENS = np.repeat(np.geomspace(1e4, 1e6, 12), 2)


@pytest.mark.parametrize("points", [8, 12, 40])
def test_fit_recovers_the_parameters_of_the_paper(points: int) -> None:
    tokens = np.geomspace(*published.FIT_RANGE, points)
    (parameters,) = published.FIT_FORM.fit(tokens, published.fitted_accuracy(tokens)[None])
    assert parameters == pytest.approx(published.fit_parameters(), rel=1e-6)


def test_published_curve_matches_the_printed_formula() -> None:
    million = 1e6 * np.array([1.0, 10, 100, 455])
    printed = [64.5456 - 13.8352 * 0.9989**x - 8.4705 * 0.8961**x - 3.932 * 0.0546**x for x in (1, 10, 100, 455)]
    assert 100 * published.fitted_accuracy(million) == pytest.approx(printed, rel=1e-12)
    assert published.fitted_accuracy(million)[-1] == pytest.approx(published.HEADLINE.accuracy, abs=1e-3)


@pytest.mark.parametrize(
    ("form", "parameters"),
    [
        (LogLinear(), [-1.0, 0.12]),
        (LogLinear(flat_start=True), [-1.0, 0.12, 4e4]),
        (LogLinear(flat_end=True), [-1.0, 0.12, 3e5]),
        (LogLinear(flat_start=True, flat_end=True), [-1.0, 0.12, 4e4, 3e5]),
        (Exponentials(1), [0.7, 0.4, 1e5]),
        (Exponentials(2), [0.7, 0.2, 0.2, 2e4, 4e5]),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_each_form_recovers_its_own_curve(form: LogLinear | Exponentials, parameters: list[float]) -> None:
    truth = np.array([parameters])
    accuracies = form.predict(truth, TOKENS)
    fitted = form.fit(TOKENS, accuracies)
    assert form.predict(fitted, TOKENS) == pytest.approx(accuracies, abs=0.01), "breakpoints are searched on a grid"
    assert fitted[0, :2] == pytest.approx(truth[0, :2], rel=0.15)
    others = [other for other in FORMS if len(other.parameter_names) < len(form.parameter_names)]
    errors = [np.abs(other.predict(other.fit(TOKENS, accuracies), TOKENS) - accuracies).max() for other in others]
    assert all(error > 0.01 for error in errors), "no simpler form does as well"


def test_sets_fitted_together_match_sets_fitted_alone() -> None:
    rng = np.random.default_rng(0)
    sets = 0.1 * np.log(TOKENS) - 0.6 + rng.normal(0, 0.02, (5, len(TOKENS)))
    for form in FORMS[:5]:
        alone = np.concatenate([form.fit(TOKENS, one[None]) for one in sets])
        assert form.fit(TOKENS, sets) == pytest.approx(alone)


def test_fit_that_does_not_converge_is_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entigraph.analysis.scaling.curve_forms.MAX_EVALUATIONS", 1)
    noisy = 0.3 + np.random.default_rng(0).normal(0, 0.1, (1, len(TOKENS)))
    assert np.isnan(Exponentials(3).fit(TOKENS, noisy)).all()


def test_corrected_aic_penalizes_parameters_and_too_few_runs() -> None:
    assert corrected_aic(1.0, 20, 2) < corrected_aic(1.0, 20, 3) < corrected_aic(1.0, 20, 7)
    assert corrected_aic(1.0, 4, 2) == float("inf")
    # AICc = n ln(SSE/n) + 2k + 2k(k+1)/(n-k-1), k = 2 + 1
    assert corrected_aic(0.5, 10, 2) == pytest.approx(10 * np.log(0.05) + 6 + 24 / 6)
