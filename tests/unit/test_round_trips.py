"""How often the attack makes the host wait for the device, which leaves a GPU idle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from octrobust.attack import ElasticNet
from octrobust.attack.speed import Shortcuts

_WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select")
_BY_MASK = ("index", "index_put", "index_put_")


class Waits(TorchDispatchMode):
    """Counts the operators whose result, or its shape, the host needs; `tolist` is not one."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in _BY_MASK and any(i is not None and i.dtype == torch.bool for i in args[1])
        self.count += name in _WAITS or by_mask
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("solver", ["fista", "projection"])
def test_the_host_waits_a_few_times_an_iteration(
    solver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 2))
    x = torch.rand(16, 1, 8, 8)
    y = model(x).argmax(1)
    short = Shortcuts(solver=solver)
    attack = ElasticNet(
        model, learning_rate=0.05, binary_search_steps=4, max_iter=50, shortcuts=short
    )
    waits, lists = Waits(), 0
    tolist = Tensor.tolist

    def counted(self: Tensor) -> Any:
        nonlocal lists
        lists += 1
        return tolist(self)

    monkeypatch.setattr(Tensor, "tolist", counted)
    with waits:
        result = attack.run(x, y, progress=lambda _: None)
    iterations = int(result.iterations.max())
    assert iterations >= 10
    assert waits.count + lists <= 5 * iterations
