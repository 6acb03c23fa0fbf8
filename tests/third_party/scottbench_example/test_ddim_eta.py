"""What an author's own test looks like: the method keeps the rules, at every noise strength."""

from dataclasses import dataclass, replace

import pytest
from scottbench_example import Options, register_methods

from scottbench.testing import check_method


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_method_conforms(eta):
    @dataclass(frozen=True)
    class AtEta(Options):
        pass

    AtEta.__init__.__defaults__ = (eta,)
    for method in register_methods():
        check_method(replace(method, options=AtEta))
