"""Inception-ResNet-V1 as arithmetic: its convolutions, and what a pass through them takes.

No weights and no torch: the table below is facenet-pytorch's network, child by child.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

FEATURES, EMBEDDING, CLASSES = 1792, 512, 2


@dataclass(frozen=True)
class Convolution:
    """`inputs` and `outputs` channels; kernel, stride and padding in pixels.

    first: it reads what its child is given; side: of its output, (height, width), once placed.
    """

    inputs: int
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    norm: bool = True
    first: bool = False
    side: tuple[int, int] = (0, 0)

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs * self.kernel[0] * self.kernel[1]

    @property
    def parameters(self) -> int:
        """Weights, and BatchNorm's scale and shift or a bias."""
        return self.weights + (2 if self.norm else 1) * self.outputs

    @property
    def values(self) -> int:
        """Of the output."""
        return self.outputs * self.side[0] * self.side[1]

    @property
    def flops(self) -> int:
        """Of one image forward, a multiplication and an addition counted as two."""
        return 2 * self.weights * self.side[0] * self.side[1]


Branch = list[Convolution]
C = Convolution


def _square(inputs: int, outputs: int, side: int, stride: int = 1, padding: int = 0) -> Convolution:
    return C(inputs, outputs, (side, side), stride, (padding, padding))


def _line(channels: int, length: int) -> Branch:
    half = length // 2
    return [
        C(channels, channels, (1, length), 1, (0, half)),
        C(channels, channels, (length, 1), 1, (half, 0)),
    ]


def _block(channels: int, branches: list[Branch]) -> list[Branch]:
    """A residual block: its branches, then the way back up."""
    joined = sum(branch[-1].outputs for branch in branches)
    return [*branches, [C(joined, channels, norm=False)]]


_BLOCK35 = _block(
    256,
    [
        [C(256, 32)],
        [C(256, 32), _square(32, 32, 3, padding=1)],
        [C(256, 32), _square(32, 32, 3, padding=1), _square(32, 32, 3, padding=1)],
    ],
)
_BLOCK17 = _block(896, [[C(896, 128)], [C(896, 128), *_line(128, 7)]])
_BLOCK8 = _block(1792, [[C(1792, 192)], [C(1792, 192), *_line(192, 3)]])
_MIXED_6A = [
    [_square(256, 384, 3, 2)],
    [C(256, 192), _square(192, 192, 3, padding=1), _square(192, 256, 3, 2)],
]
_MIXED_7A = [
    [C(896, 256), _square(256, 384, 3, 2)],
    [C(896, 256), _square(256, 256, 3, 2)],
    [C(896, 256), _square(256, 256, 3, padding=1), _square(256, 256, 3, 2)],
]
# By child: (branches, times, whether a 3 x 3 pool of stride 2 leaves the side behind).
_CHILDREN: dict[str, tuple[list[Branch], int, bool]] = {
    "conv2d_1a": ([[_square(3, 32, 3, 2)]], 1, False),
    "conv2d_2a": ([[_square(32, 32, 3)]], 1, False),
    "conv2d_2b": ([[_square(32, 64, 3, padding=1)]], 1, False),
    "maxpool_3a": ([], 1, True),
    "conv2d_3b": ([[C(64, 80)]], 1, False),
    "conv2d_4a": ([[_square(80, 192, 3)]], 1, False),
    "conv2d_4b": ([[_square(192, 256, 3, 2)]], 1, False),
    "repeat_1": (_BLOCK35, 5, False),
    "mixed_6a": (_MIXED_6A, 1, True),
    "repeat_2": (_BLOCK17, 10, False),
    "mixed_7a": (_MIXED_7A, 1, True),
    "repeat_3": (_BLOCK8, 5, False),
    "block8": (_BLOCK8, 1, False),
}


@functools.cache
def convolutions(size: int) -> dict[str, tuple[Convolution, ...]]:
    """Those of every child, with their sides, for images of `size` px."""
    found, side = {}, (size, size)
    for name, (branches, times, pooled) in _CHILDREN.items():
        placed = [layer for number in range(times) for layer in _place(branches, side, number == 0)]
        found[name] = tuple(placed)
        if pooled:
            side = _after(side, (3, 3), 2, (0, 0))
        elif placed:
            side = placed[-1].side
    return found


def forward_flops(size: int) -> int:
    """Of one image of `size` px."""
    return sum(layer.flops for layer in _all(size)) + sum(2 * n for n in _linear_weights())


def gradient_flops(size: int) -> int:
    """Of one image forward and the gradient at the image, parameters left alone."""
    return 2 * forward_flops(size)


def training_flops(size: int, freeze_through: str | None = None) -> int:
    """Of one image forward, and the gradients that an optimiser needs: of what is frozen none, and
    none at what the first trained child reads."""
    total, frozen = forward_flops(size), freeze_through is not None
    trained_before = False
    for name, layers in convolutions(size).items():
        for layer in layers:
            if not frozen:
                unread = layer.first and not trained_before
                total += layer.flops * (1 if unread else 2)
        trained_before = trained_before or (bool(layers) and not frozen)
        frozen = frozen and name != freeze_through
    return total + sum(4 * weights for weights in _linear_weights())


def parameters(freeze_through: str | None = None) -> int:
    """Those that are trained."""
    total, frozen = 0, freeze_through is not None
    for name, layers in convolutions(160).items():
        total += 0 if frozen else sum(layer.parameters for layer in layers)
        frozen = frozen and name != freeze_through
    embedding, answer = _linear_weights()
    return total + embedding + 2 * EMBEDDING + answer + CLASSES


def model_bytes() -> int:
    """Of the network in float32, BatchNorm's statistics and counters as well."""
    norms = [layer.outputs for layer in _all(160) if layer.norm] + [EMBEDDING]
    return 4 * parameters() + sum(8 * outputs + 8 for outputs in norms)


def values(size: int, freeze_through: str | None = None) -> int:
    """Outputs of the trained children's convolutions, all together, of one image."""
    total, frozen = 0, freeze_through is not None
    for name, layers in convolutions(size).items():
        total += 0 if frozen else sum(layer.values for layer in layers)
        frozen = frozen and name != freeze_through
    return total


def layers() -> int:
    """Number of convolutions."""
    return sum(map(len, convolutions(160).values()))


def _all(size: int) -> Iterator[Convolution]:
    return (layer for child in convolutions(size).values() for layer in child)


def _linear_weights() -> tuple[int, int]:
    return FEATURES * EMBEDDING, EMBEDDING * CLASSES


def _place(branches: list[Branch], side: tuple[int, int], first: bool) -> Iterator[Convolution]:
    for branch in branches:
        here = side
        # What goes back up reads its own block's branches.
        reads_input = first and branch[0].norm
        for number, layer in enumerate(branch):
            here = _after(here, layer.kernel, layer.stride, layer.padding)
            yield replace(layer, side=here, first=reads_input and number == 0)


def _after(
    side: tuple[int, int], kernel: tuple[int, int], stride: int, padding: tuple[int, int]
) -> tuple[int, int]:
    height, width = (
        (length + 2 * pad - reach) // stride + 1
        for length, reach, pad in zip(side, kernel, padding, strict=True)
    )
    return height, width
