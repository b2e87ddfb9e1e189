"""The cache itself: how it grows, what it keeps, what an empty one is."""

from __future__ import annotations

import itertools

import torch

from yuyan.nn.cache import Cache, NoCache


def test_growing_copies_little() -> None:
    cache, owner = Cache(step=16), object()
    seen, buffers = torch.empty(2, 1, 0, 3), []
    for _ in range(400):
        key = torch.randn(2, 1, 1, 3)
        seen = torch.cat((seen, key), 2)
        keys, values = cache.append(owner, key, -key)
        cache.advance(1)
        assert torch.equal(keys, seen) and torch.equal(values, -seen)
        buffers.append(keys.untyped_storage().data_ptr())
    moves = sum(a != b for a, b in itertools.pairwise(buffers))
    assert moves < 10


def test_a_cache_made_large_enough_never_moves() -> None:
    cache, owner = Cache(capacity=100), object()
    places = set()
    for _ in range(100):
        keys, _ = cache.append(owner, torch.randn(1, 1, 1, 2), torch.randn(1, 1, 1, 2))
        cache.advance(1)
        places.add(keys.data_ptr())
    assert len(places) == 1


def test_a_memory_is_projected_once() -> None:
    calls = []

    def make() -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(1)
        return torch.ones(1), torch.ones(1)

    cache, owner = Cache(), object()
    for _ in range(3):
        cache.once(owner, make)
        NoCache().once(owner, make)
    assert len(calls) == 4


def test_slots_belong_to_their_owners_and_follow_the_rows() -> None:
    cache, first, second = Cache(), object(), object()
    assert cache.recall(first) is None
    assert cache.swap(first, (torch.tensor([1, 2]), torch.tensor([[3], [4]]))) is None
    before = cache.swap(second, torch.tensor([5, 6]))
    assert before is None and cache.swap(second, torch.tensor([7, 8])).tolist() == [5, 6]
    cache.reorder(torch.tensor([1, 1, 0]))
    assert [part.tolist() for part in cache.recall(first)] == [[2, 2, 1], [[4], [4], [3]]]
    assert cache.recall(second).tolist() == [8, 8, 7]


def test_without_a_cache_nothing_is_kept() -> None:
    cache, owner = NoCache(), object()
    key = torch.randn(1, 1, 2, 3)
    assert cache.append(owner, key, key)[0] is key
    cache.swap(owner, key)
    cache.advance(2)
    assert cache.recall(owner) is None and cache.length == 0
