"""TextCondition: one object for all parts, and a tensor to those who took it for one."""

import copy
import pickle

import pytest
import torch

from scottbench.errors import UsageError
from scottbench.registry.condition import TextCondition, joined


def whole(n=3):
    return TextCondition(torch.arange(n * 8.0).view(n, 2, 4), torch.arange(n * 5.0).view(n, 5), torch.arange(n * 6.0).view(n, 6))


@pytest.mark.parametrize("places", [slice(1, 3), [2, 0], torch.tensor([1, 1]), torch.tensor([True, False, True])], ids=str)
def test_all_parts_are_chosen_alike(places):
    text = whole()
    chosen = text[places]
    for part, of in zip(chosen.parts, text.parts, strict=True):
        assert torch.equal(part, of[places])
    assert len(chosen) == len(chosen.hidden)


def test_conditions_are_joined_repeated_and_expanded_part_by_part():
    text, one = whole(), whole(1)
    for joint in (joined([text, one]), torch.cat([text, one])):
        assert [tuple(part.shape) for part in joint.parts] == [(4, 2, 4), (4, 5), (4, 6)]
        assert torch.equal(joint.pooled[3:], one.pooled)
    assert [part[3:].equal(of) for part, of in zip(text.repeat(2, 1, 1).parts, text.parts, strict=True)] == [True] * 3
    for wide in (one.expand(3), one.expand(3, -1, -1), one.expand_as(text)):
        assert [part.shape[0] for part in wide.parts] == [3, 3, 3] and torch.equal(wide.ids[2:], one.ids)


def test_conditions_of_different_models_are_not_joined():
    with pytest.raises(UsageError, match="of different models"):
        joined([whole(), TextCondition(torch.zeros(1, 2, 4))])


def test_it_moves_and_cannot_be_changed():
    half = whole().to(torch.float16)
    assert {part.dtype for part in half.parts} == {torch.float16} and half.nbytes == 2 * (24 + 15 + 18)
    with pytest.raises(AttributeError):
        half.hidden = torch.zeros(1)
    for again in (copy.deepcopy(half), pickle.loads(pickle.dumps(half))):
        assert torch.equal(again.ids, half.ids)


def test_hidden_states_that_are_alone_are_a_tensor_to_torch_and_to_those_who_call_its_methods():
    """The old contract: `batch["text"]` was a Tensor (N,L,D)."""
    hidden = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    text, layer = TextCondition(hidden), torch.nn.Linear(4, 2)
    assert text.shape == (3, 2, 4) and text.dtype == torch.float32 and text.device.type == "cpu" and text.dim() == 3
    assert torch.equal(layer(text), layer(hidden)) and torch.equal(text[0], hidden[0]) and torch.equal(text[:, 0], hidden[:, 0])
    mask = torch.tensor([True, False, True]).view(3, 1, 1)
    assert torch.equal(torch.where(mask, text, torch.zeros(1)), torch.where(mask, hidden, torch.zeros(1)))
    assert torch.equal(torch.cat([text, text.expand_as(hidden)]).hidden, torch.cat([hidden, hidden]))
    assert torch.equal(2 * text, 2 * hidden) and torch.equal(text * 2, 2 * hidden) and torch.equal(text + hidden, 2 * hidden)
    layer(text).sum().backward()
    assert hidden.grad is not None


def test_more_than_hidden_states_is_no_tensor():
    text = whole()
    for take in (lambda: text.shape, lambda: torch.relu(text), lambda: text[1], lambda: text * 2):
        with pytest.raises(UsageError, match="more than one tensor .*plugins/README.md"):
            take()
    with pytest.raises(AttributeError):
        getattr(text, "__wrapped__")  # noqa: B009
