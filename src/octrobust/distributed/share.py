"""How the ranks of a fit share a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from octrobust.distributed import place
from octrobust.errors import UserError


@dataclass(frozen=True)
class Share:
    """The rows `start` to `stop` of every batch of `total`; shares differ by a row at most."""

    start: int
    stop: int
    total: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def rows(self) -> slice:
        return slice(self.start, self.stop)

    def draw(self, x: Tensor, how: Callable[[Tensor], Tensor]) -> Tensor:
        """`how`, which draws at random, of x (N, ...), the own rows of one or several batches.

        It is drawn for whole batches and the rest left out: what a row gets, and where torch's
        generator stands afterwards, do not depend on the number of ranks.
        """
        shape = x.shape[1:]
        whole = x.new_zeros((len(x) // len(self), self.total, *shape))
        whole[:, self.rows] = x.reshape(-1, len(self), *shape)
        drawn = how(whole.flatten(0, 1)).reshape(whole.shape)
        return drawn[:, self.rows].flatten(0, 1)


def own_share(total: int) -> Share | None:
    """This rank's share of batches of `total` rows; None: it is alone.

    Raises:
        UserError: more ranks than rows.
    """
    rank, ranks = place.rank(), place.ranks()
    if ranks == 1:
        return None
    if total < ranks:
        raise UserError(f"batch_size: {total} is less than one image for each of {ranks} processes")
    return Share(rank * total // ranks, (rank + 1) * total // ranks, total)
