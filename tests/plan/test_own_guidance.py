"""The guidance of a student: baked in, an input that it follows, or one that it does not hear."""

from types import SimpleNamespace

import pytest

from scottbench.errors import UsageError
from scottbench.plan.choices import check_scan, own_guidance


def test_a_baked_guidance_is_sampled_with_1_unless_the_user_says_otherwise():
    chosen = lambda asked: SimpleNamespace(guidance=3.0, guidance_asked=asked)  # noqa: E731
    assert own_guidance(chosen(False), {"guidance": "baked"}) == 1.0
    assert own_guidance(chosen(True), {"guidance": "baked"}) == 3.0  # and is refused with words of its own
    assert own_guidance(chosen(False), {"w_min": 0.0, "w_max": 4.0}) == 3.0


def test_a_scan_of_a_student_that_does_not_hear_its_guidance_is_refused():
    deaf = {"guidance_slope": {"t999": 0.05, "t759": 0.4, "t499": 0.02}}
    with pytest.raises(UsageError, match=r"2 guidance scales, .* at t = 499 its output moves by 0.02"):
        check_scan("cd", {2.0, 3.0}, deaf)
    check_scan("cd", {2.0}, deaf)
    check_scan("cd", {2.0, 3.0}, {"guidance_slope": {"t999": 0.3, "t499": 0.9}})
    check_scan("cd", {2.0, 3.0}, {})  # of older students nothing is known
