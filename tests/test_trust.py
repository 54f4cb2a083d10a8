"""Is it calibrated? The words follow the numbers, and each lie is named."""

import copy
import re

import pytest

from udenoise.report.trust import trust

N = 40
ROI = {
    "predicted": [1.0] * N, "stated": [1.0] * N, "measured": [1.0] * N, "measured_se": [0.2] * N, "noise": [10.0] * N,
    "groups": {"predicted": [0.05, 0.1, 0.2, 0.4, 1.0, 3.0], "measured": [0.05, 0.1, 0.2, 0.4, 1.0, 3.0],
               "measured_se": [0.002, 0.004, 0.01, 0.02, 0.05, 0.2]},
    "lags": {"lag": [1, 2], "predicted": [0.9, 0.8], "measured": [0.85, 0.7], "se": [0.1, 0.1]},
}  # fmt: skip
NAMES = [f"cell {n}" for n in range(N)]
WHITE = {"difference_lag1": -0.499}


def judged(changes: dict = {}, noise: dict = WHITE, **calibration):  # noqa: B006
    roi = copy.deepcopy(ROI)
    for name, value in changes.items():
        roi[name] = value
    return trust({"factor_shared": 1.2, "roi": roi} | calibration, noise, NAMES)


def test_what_agrees_can_be_trusted():
    found = judged()
    assert found["reasons"] == [] and "can be trusted, as far as" in found["verdict"]
    assert found["ratio"] == pytest.approx(1) and found["rois_off"] == []
    assert [row["frames"] for row in found["activity"]][-1] == "largest 1 %"
    assert found["lags"][1] == {"lag": 2, "predicted": 0.8, "measured": 0.7, "se": 0.1}


GROUPS = ROI["groups"]


@pytest.mark.parametrize(("changes", "told"), [
    ({"groups": GROUPS | {"measured": [1.5 * v for v in GROUPS["measured"]]}}, "larger than predicted: corridors are too narrow"),
    ({"groups": GROUPS | {"measured": [0.5 * v for v in GROUPS["measured"]]}}, "smaller than predicted: corridors are too wide"),
    ({"groups": GROUPS | {"predicted": [*GROUPS["predicted"][:5], 1.0]}}, r"largest 1 %\) corridors are too narrow"),
    ({"groups": GROUPS | {"measured": [*GROUPS["measured"][:4], 0.4, 3.0]}}, r"97–99 %\) corridors are too wide"),
    ({"measured": [4.0, *[1.0] * (N - 1)]}, "1 of 40 ROIs err otherwise than stated: cell 0"),
    ({"noise_factor": 1.22}, "flicker"),
    ({"groups": {name: [40 * v for v in GROUPS[name]] for name in GROUPS}}, "Little was gained"),
])  # fmt: skip
def test_each_lie_is_named(changes, told):
    found = judged(changes)
    assert any(re.search(told, reason) for reason in found["reasons"]), found["reasons"]
    assert "exceptions" in found["verdict"] or "Do not trust" in found["verdict"]


def test_a_network_from_elsewhere_and_noise_that_lasts():
    assert "does not fit" in judged(factor_shared=6.0)["reasons"][0]
    assert "not independent" in judged(noise={"difference_lag1": -0.42})["reasons"][0]


def test_chance_is_no_reason_and_few_frames_no_verdict():
    doubt = [0.3 * v for v in GROUPS["measured"]]
    shaky = judged({"groups": GROUPS | {"measured": [1.3 * v for v in GROUPS["measured"]], "measured_se": doubt}})
    assert shaky["reasons"] == []
    lost = judged({"groups": GROUPS | {"measured_se": [v for v in GROUPS["measured"]]}})
    assert "Too few frames" in lost["verdict"]
    assert trust(None, WHITE, []) is None and trust({"roi": {}}, WHITE, []) is None


def test_what_the_frame_itself_corrects_does_not_matter():
    """A blind prediction that errs by ten or by thirty times the noise is overruled alike."""
    huge = {
        name: [*GROUPS[name][:5], value]
        for name, value in (("predicted", 30.0), ("measured", 10.0), ("measured_se", 0.5))
    }
    assert judged({"groups": huge})["reasons"] == []
