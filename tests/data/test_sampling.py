"""The stream of images as a function of (seed, step)."""

from collections import Counter
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrous.data.sampling import KeyedBatchSampler, ShardSampler, epoch_order
from atrous.errors import ConfigError


@given(length=st.integers(1, 30), batch_size=st.integers(1, 9), seed=st.integers(0, 3))
def test_each_epoch_visits_every_image_exactly_once(length: int, batch_size: int, seed: int) -> None:
    steps = -(-3 * length // batch_size)
    sampler = KeyedBatchSampler(length=length, batch_size=batch_size, seed=seed, max_steps=steps)
    stream = list(chain.from_iterable(sampler))[: 3 * length]
    assert all(len(batch) == batch_size for batch in sampler)
    assert set(Counter(stream).values()) == {1}
    assert [epoch for epoch, _ in stream] == [epoch for epoch in range(3) for _ in range(length)]


@given(length=st.integers(1, 30), batch_size=st.integers(1, 5), start=st.integers(0, 20))
def test_a_resumed_stream_equals_the_rest_of_the_whole(length: int, batch_size: int, start: int) -> None:
    whole = list(KeyedBatchSampler(length=length, batch_size=batch_size, max_steps=20))
    resumed = list(KeyedBatchSampler(length=length, batch_size=batch_size, max_steps=20, start_step=start))
    assert resumed == whole[start:]


@given(length=st.integers(1, 30), per_rank=st.integers(1, 4), ranks=st.integers(1, 4))
def test_the_ranks_share_each_global_batch_without_overlap(length: int, per_rank: int, ranks: int) -> None:
    whole = list(KeyedBatchSampler(length=length, batch_size=per_rank * ranks, max_steps=7))
    parts = [
        list(KeyedBatchSampler(length=length, batch_size=per_rank, num_replicas=ranks, rank=rank, max_steps=7))
        for rank in range(ranks)
    ]
    for step, batch in enumerate(whole):
        assert sorted(chain.from_iterable(part[step] for part in parts)) == sorted(batch)


def test_orders_differ_between_epochs_and_seeds() -> None:
    def stream(seed: int) -> list[tuple[int, int]]:
        return list(chain.from_iterable(KeyedBatchSampler(length=50, batch_size=10, seed=seed, max_steps=10)))

    first, second = stream(0)[:50], stream(0)[50:]
    assert [index for _, index in first] != [index for _, index in second]
    assert stream(0) != stream(1)
    assert stream(0) == stream(0)


def test_an_order_is_the_one_that_every_version_has_taken() -> None:
    assert epoch_order(seed=0, epoch=0, length=8) == [7, 0, 1, 6, 5, 2, 3, 4]
    assert epoch_order(seed=3, epoch=1, length=8) == [1, 4, 0, 3, 7, 6, 2, 5]


def test_a_batch_larger_than_the_data_set_runs_over_several_epochs() -> None:
    (batch,) = KeyedBatchSampler(length=3, batch_size=8, max_steps=1)
    assert [epoch for epoch, _ in batch] == [0, 0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 0}, "length=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"rank": 2, "num_replicas": 2}, "rank=2 must be at least 0 and below num_replicas=2"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_impossible_values_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        KeyedBatchSampler(**{"length": 5, "batch_size": 2, "max_steps": 1, **arguments})


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_shard_of_a_rank_that_is_none_is_refused(rank: int) -> None:
    with pytest.raises(ConfigError, match=rf"rank={rank} must be at least 0 and below num_replicas=2"):
        ShardSampler(length=5, num_replicas=2, rank=rank)


@given(length=st.integers(0, 40), ranks=st.integers(1, 8))
def test_shards_hold_each_image_exactly_once(length: int, ranks: int) -> None:
    shards = [ShardSampler(length=length, num_replicas=ranks, rank=rank) for rank in range(ranks)]
    assert sorted(chain.from_iterable(shards)) == list(range(length))
    assert [len(shard) for shard in shards] == [len(list(shard)) for shard in shards]
