"""Which image is seen when: a pure function of (seed, step), so that a resumed run sees the same data."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from atrous.errors import ConfigError

Item = tuple[int, int]  # (epoch, index): all that a sample's draw depends on besides the seed

_ORDERS = 0  # the branch of the seed tree that epoch orders use; data.augmentation uses another


def epoch_order(*, seed: int, epoch: int, length: int) -> list[int]:
    """Return the order in which an epoch visits the data set: a permutation keyed by (seed, epoch)."""
    key = np.random.SeedSequence(seed, spawn_key=(_ORDERS, epoch))
    order: list[int] = np.random.Generator(np.random.PCG64(key)).permutation(length).tolist()
    return order


class KeyedBatchSampler(Sampler[list[Item]]):
    """Batches of an endless shuffled stream: epoch 0's order, then epoch 1's, and so on, without gaps.

    The global batch of step t is positions [t * G, (t + 1) * G) of the stream, G = batch_size * num_replicas; rank r
    takes every num_replicas-th of them, from the r-th. So the images of a step do not depend on the number of ranks, no
    batch is ever short, and starting at step k gives exactly what a run from 0 sees from step k on.

    Args:
        length: images in the data set.
        batch_size: per rank.
        num_replicas: ranks.
        rank: this process.
        seed: of the orders.
        start_step: first step (micro-step, when gradients are accumulated).
        max_steps: the step before which the stream ends.

    Raises:
        ConfigError: a value is impossible.
    """

    def __init__(
        self,
        *,
        length: int,
        batch_size: int,
        max_steps: int,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
        start_step: int = 0,
    ) -> None:
        if min(length, batch_size, num_replicas) < 1:
            raise ConfigError(
                f"sampler: length={length}, batch_size={batch_size}, num_replicas={num_replicas} must be positive"
            )
        if not 0 <= rank < num_replicas:
            raise ConfigError(f"sampler: rank={rank} must be at least 0 and below num_replicas={num_replicas}")
        if seed < 0 or start_step < 0:
            raise ConfigError(f"sampler: seed={seed} and start_step={start_step} must not be negative")
        self.length, self.batch_size, self.max_steps = length, batch_size, max_steps
        self.num_replicas, self.rank, self.seed, self.start_step = num_replicas, rank, seed, start_step

    def __len__(self) -> int:
        """Steps of the whole stream, those before start_step included, which are not yielded.

        Lightning resumes by adding the finished steps to those it fetches and compares the sum with this length; with
        the remaining steps alone it would stop early and start over.
        """
        return self.max_steps

    def __iter__(self) -> Iterator[list[Item]]:
        """Yield this rank's batch of each step as (epoch, index) items."""
        epoch, order = -1, []
        first = self.rank
        per_step = self.batch_size * self.num_replicas
        for step in range(self.start_step, self.max_steps):
            positions = range(step * per_step + first, (step + 1) * per_step, self.num_replicas)
            batch = []
            for position in positions:
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = epoch_order(seed=self.seed, epoch=epoch, length=self.length)
                batch.append((epoch, order[position % self.length]))
            yield batch


class ShardSampler(Sampler[int]):
    """Rank r of R evaluates images r, r + R, r + 2R...: each image once, without duplicates that even out the ranks.

    Shards may differ in length by one, so nothing may be exchanged between ranks inside the loop.

    Args:
        length: images in the data set.
        num_replicas: ranks.
        rank: this process.

    Raises:
        ConfigError: rank and num_replicas do not go together.
    """

    def __init__(self, *, length: int, num_replicas: int = 1, rank: int = 0) -> None:
        if not 0 <= rank < num_replicas:
            raise ConfigError(f"sampler: rank={rank} must be at least 0 and below num_replicas={num_replicas}")
        self._indices = range(rank, length, num_replicas)

    def __len__(self) -> int:
        """Images of this rank."""
        return len(self._indices)

    def __iter__(self) -> Iterator[int]:
        """Yield this rank's images in order."""
        return iter(self._indices)
