"""The neighbours that stage 1 finds among what it has seen."""

import numpy as np
import torch

from clusterloom.recipe.support_set import SupportSet


def rows(*numbers):
    return torch.tensor(numbers, dtype=torch.int32)


def test_the_nearest_is_another_image_that_was_seen():
    support = SupportSet(10, 2, young_steps=0)
    support.remember(torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 2.0]]), rows(0, 1, 2))
    asked = torch.tensor([[1.0, 0.1], [1.0, 0.1], [0.1, 5.0]], requires_grad=True)
    found = support.lookalikes(asked, rows(0, 7, 7), torch.zeros(3))
    diagonal = 0.5**0.5
    torch.testing.assert_close(found, torch.tensor([[diagonal, diagonal], [1.0, 0.0], [0.0, 1.0]]))
    assert not found.requires_grad


def test_one_is_drawn_from_so_many_of_the_nearest():
    support = SupportSet(4096, 2, young_steps=0)
    assert support.n_nearest == 20
    angles = torch.linspace(0, 1, 1000)
    support.remember(torch.stack([angles.cos(), angles.sin()], 1), torch.arange(1000, dtype=torch.int32))
    asked = torch.tensor([[1.0, 0.0]]).expand(400, 2)
    found = support.lookalikes(asked, torch.zeros(400, dtype=torch.int32), torch.linspace(-6, 6, 400))
    drawn = {round(angle * 999) for angle in torch.atan2(found[:, 1], found[:, 0]).tolist()}
    assert drawn == set(range(1, 21))  # not 0, the image itself
    few = SupportSet(4096, 2, young_steps=0)
    few.remember(torch.eye(2), rows(0, 1))
    assert torch.equal(few.lookalikes(asked[:1], rows(0), torch.tensor([9.0])), torch.eye(2)[1:])


def test_the_oldest_make_way():
    support = SupportSet(3, 2, young_steps=0)
    first, others = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]).expand(2, 2)
    support.remember(first, rows(0))
    support.remember(others, rows(1, 2))
    assert torch.equal(support.lookalikes(first, rows(9), torch.zeros(1)), first)
    support.remember(others, rows(3, 4))
    assert sorted(support.rows.tolist()) == [2, 3, 4]
    assert torch.equal(support.lookalikes(first, rows(9), torch.zeros(1)), others[:1])


def test_a_batch_may_be_larger_than_the_set_and_an_image_alone():
    support = SupportSet(2, 2, young_steps=0)
    support.remember(torch.eye(2).repeat(3, 1), rows(0, 1, 0, 1, 0, 1))
    assert support.rows.tolist() == [0, 1]
    lonely = SupportSet(1, 2, young_steps=0)
    lonely.remember(torch.tensor([[0.0, 1.0]]), rows(0))
    assert torch.isfinite(lonely.lookalikes(torch.tensor([[1.0, 0.0]]), rows(0), torch.zeros(1))).all()


def test_nobody_is_found_before_enough_was_learned():
    support = SupportSet(8, 2, young_steps=2)
    young = []
    for step in range(3):
        young.append(support.is_young)
        support.remember(torch.randn(2, 2), rows(2 * step, 2 * step + 1))
    assert young == [True, True, False]


def test_its_state_is_all_that_it_knows():
    torch.manual_seed(0)
    support, again = (SupportSet(5, 3, young_steps=1) for _ in range(2))
    for _ in range(3):
        support.remember(torch.randn(2, 3), rows(*np.random.default_rng(0).integers(5, size=2)))
    again.load_state_dict(support.state_dict())
    asked, more, numbers = torch.randn(4, 3), torch.randn(2, 3), torch.randn(4)
    for each in (support, again):
        each.remember(more, rows(0, 1))
    assert again.is_young == support.is_young
    found = [each.lookalikes(asked, rows(0, 1, 2, 3), numbers) for each in (support, again)]
    assert torch.equal(*found)
