"""The order of a stream: all items once an epoch, no two processes one item, resumed at the same place, nothing twice with other lanes."""

import numpy as np
import pytest

from scottbench.training.order import Order, Shards, items_at

SIZES = np.array([7, 0, 50, 8, 0, 0, 93, 1, 40, 3], np.int64)
HELD_OUT = np.array([3, 7, 60, 157, 158], np.int64)
N = 202 - 5


def order(lanes=2, rows=3, window=10, spare=0.0, seed=0):
    return Order(Shards(SIZES, HELD_OUT, seed), lanes, rows, window, spare)


def read(found, steps):
    """Items of some steps, by lane."""
    return {lane: [item for step in steps for item in found.part(step, lane).tolist()] for lane in range(found.course.lanes)}


def everything(by_lane):
    return [item for items in by_lane.values() for item in items]


def test_lanes_are_disjoint_and_have_every_item_that_is_not_held_out():
    """197 items, of which 2 x 32 x 3 are in steps and the rest, 5, are spares."""
    found = order()
    by_lane = read(found, range(found.course.steps))
    spares = [found.spare_item(0, lane, number) for lane in (0, 1) for number in range(found.course.spares(lane))]
    items = everything(by_lane) + spares
    assert len(by_lane[0]) == len(by_lane[1]) == 96 and len(items) == N
    assert set(items) == set(range(202)) - set(HELD_OUT.tolist())
    assert found.spare_item(0, 0, found.course.spares(0)) is None


def test_epochs_have_orders_of_their_own_which_depend_on_the_seed_alone():
    steps = order().course.steps
    first, second = (read(order(), range(epoch * steps, (epoch + 1) * steps)) for epoch in (0, 1))
    assert first != second and first == read(order(), range(steps)) and first != read(order(seed=1), range(steps))
    assert len(set(second[0] + second[1])) == 192


def test_items_are_shuffled_within_a_window_of_shards_that_are_read_in_turn():
    found, plain = order(window=10), order(window=1)
    for lane in (0, 1):
        mixed, straight = (read(one, range(one.course.steps))[lane] for one in (found, plain))
        assert mixed != straight
        assert all(sorted(mixed[at : at + 10]) == sorted(straight[at : at + 10]) for at in range(0, 96, 10))
    shard = np.searchsorted(np.cumsum(SIZES), straight, side="right")
    assert np.count_nonzero(np.diff(shard)) < len(SIZES), "a lane reads shard after shard"
    assert straight != sorted(straight), "in an order of their own"


@pytest.mark.parametrize("step", [0, 1, 20, 32, 75])
def test_a_resumed_training_goes_on_at_the_same_items(step):
    found, again = order(spare=0.05), order(spare=0.05)
    found.note(step, 1, 2)
    assert not again.resume(found.state(step), step)
    assert again.spent(step, 1) == 2 and again.spent(step, 0) == 0
    assert read(found, range(step, step + 40)) == read(again, range(step, step + 40))


@pytest.mark.parametrize("ways", [[(2, 3), (1, 6)], [(1, 6), (2, 3)], [(2, 3), (3, 2), (2, 3)], [(6, 1), (2, 3), (3, 2), (1, 6)]])
@pytest.mark.parametrize("each", [1, 5, 11])
def test_with_other_lanes_no_item_comes_twice_in_an_epoch(ways, each):
    """Of the items of the epoch only spares and the rest of windows are left out; the next epoch has all again."""
    step, seen, state, lost = 0, [], None, 0
    for lanes, rows in ways:
        found = order(lanes, rows, window=10, spare=0.03)
        if state is not None:
            assert found.resume(state, step)
            lost += 10 * len(state["used"])
        steps = range(step, step + each)
        if found.at(step + each - 1)[0].epoch == 0:
            seen += everything(read(found, steps))
            used = found.spare_item(step, 0, 0)
            seen.append(used)
            found.note(step + each - 1, 0, 1)
            step += each
        state = found.state(step)
    first = found.course
    while found.at(step)[0].epoch == 0:
        seen += everything(read(found, [step]))
        step += 1
    spare = sum(first.spares(lane) for lane in range(first.lanes)) + lanes * rows
    assert len(seen) == len(set(seen)) and len(seen) >= N - lost - spare
    whole = read(found, range(step, step + found.whole(1, 0, lanes, rows).steps))
    assert len(set(everything(whole))) == found.whole(1, 0, lanes, rows).steps * 6


@pytest.mark.parametrize("change", [
    {"epoch": -1}, {"since": 99}, {"lanes": 0}, {"lanes": 10**9}, {"rows": "3"}, {"items": 5}, {"spans": []}, {"spans": [[5, 3]]},
    {"spans": [[0, 10**6]]}, {"spans": [[0, 9], [3, 20]]}, {"spans": [0, 9]}, {"used": [1]}, {"used": [0, 99]}, {"used": [0, -1]},
    {"used": None}, {"rows": 500}], ids=str)  # fmt: skip
def test_a_state_that_cannot_be_is_refused(change):
    with pytest.raises(ValueError):
        order().resume(order().state(4) | change, 4)


def test_places_and_items_are_one_to_one_with_empty_shards_anywhere():
    for seed in range(20):
        shards = Shards(SIZES, HELD_OUT, seed)
        found = items_at(shards, 3, np.arange(len(shards)))
        assert sorted(found.tolist()) == sorted(set(range(202)) - set(HELD_OUT.tolist()))
