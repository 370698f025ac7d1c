"""The search for reference cycles is off, or seldom, inside of the block, and afterwards as it was before."""

from __future__ import annotations

import contextlib
import gc

import pytest

from graphopt.guard.garbage import keeping, rarely


@pytest.mark.parametrize("searched", [True, False], ids=["on", "off"])
@pytest.mark.parametrize("fails", [True, False], ids=["fails", "ends"])
def test_afterwards_as_before(searched: bool, fails: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if searched else gc.disable)()
        try:
            with keeping(), keeping():
                assert not gc.isenabled()
                if fails:
                    raise ValueError
        except ValueError:
            pass
        assert gc.isenabled() is searched
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize("fails", [True, False], ids=["fails", "ends"])
def test_the_thresholds_are_put_back(fails: bool) -> None:
    before = gc.get_threshold()
    with pytest.raises(ValueError) if fails else contextlib.nullcontext(), rarely():
        assert gc.get_threshold()[0] > before[0]
        if fails:
            raise ValueError
    assert gc.get_threshold() == before
