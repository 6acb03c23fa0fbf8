"""The collector is paused while libraries are imported, and left as it was found."""

from __future__ import annotations

import gc

import pytest

from scottbench.models.importing import importing


def test_the_collector_is_off_inside_and_on_again_after():
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_an_import_that_fails_leaves_the_collector_on():
    with pytest.raises(ImportError), importing():
        raise ImportError("no such library")
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_only_a_process_that_froze_before_freezes_what_was_imported():
    """In a notebook the objects are the user's own: none of them may be kept for ever."""
    gc.unfreeze()  # the command line, called by a test before, freezes
    with importing():
        pass
    assert gc.get_freeze_count() == 0
    gc.freeze()
    try:
        before = gc.get_freeze_count()
        with importing():
            made = [[] for _ in range(1000)]
        assert gc.get_freeze_count() >= before + len(made)
    finally:
        gc.unfreeze()
