"""GPUs by name, as their makers rate them, and what a pass would take there.

No GPU was measured for this table: rated rates are facts, the shares of them are assumptions.
"""

from __future__ import annotations

from dataclasses import dataclass

from octrobust.errors import UserError
from octrobust.planning import network
from octrobust.planning.work import Pass

# Assumed: what convolutions of this size reach of the rated dense rate, and what BatchNorm and relu
# reach of the rated bandwidth; and the time between two kernels that a process starts.
SHARE_OF_PEAK, SHARE_OF_BANDWIDTH, LAUNCH_SECONDS = 0.4, 0.7, 6e-6
BATCH = 64  # what networks see at once on CUDA, see octrobust.model.predict
# By kind of pass: how often a convolution's output is read or written, kernels a convolution.
_TRAFFIC = {"train": 18, "through_art": 18, "validate": 6, "forward": 6, "gradient": 8, "screen": 4}
_KERNELS = {"train": 9, "through_art": 9, "validate": 3, "forward": 3, "gradient": 4, "screen": 2}


@dataclass(frozen=True)
class Device:
    """Rated dense rates in TFLOP/s (None: it has no such units), GB/s and GB, and where they
    stand."""

    name: str
    bf16: float | None
    tf32: float | None
    fp32: float
    bandwidth: float
    memory: float
    source: str


_DEVICES = (
    Device("H200", 989.0, 494.0, 67.0, 4800, 141, "NVIDIA H200 Tensor Core GPU data sheet (SXM)"),
    Device("H100", 989.4, 494.7, 66.9, 3350, 80, "NVIDIA H100 Tensor Core GPU data sheet (SXM5)"),
    Device("A100-80GB", 312.0, 156.0, 19.5, 2039, 80, "NVIDIA A100 80 GB data sheet (SXM4)"),
    Device("A100-40GB", 312.0, 156.0, 19.5, 1555, 40, "NVIDIA A100 40 GB data sheet (SXM4)"),
    Device("L40S", 362.0, 183.0, 91.6, 864, 48, "NVIDIA L40S data sheet"),
    Device("L4", 121.0, 60.0, 30.3, 300, 24, "NVIDIA L4 data sheet, half of the sparse rates"),
    Device("A10", 125.0, 62.5, 31.2, 600, 24, "NVIDIA A10 data sheet"),
    Device("RTX-4090", 165.2, 82.6, 82.6, 1008, 24, "NVIDIA Ada architecture white paper"),
    Device("RTX-3090", 71.0, 35.6, 35.6, 936, 24, "NVIDIA Ampere GA102 white paper"),
    Device("V100", None, None, 15.7, 900, 32, "NVIDIA V100 data sheet (SXM2)"),
    Device("T4", None, None, 8.1, 320, 16, "NVIDIA T4 data sheet"),
)
DEVICES = {device.name: device for device in _DEVICES}


def find(name: str) -> Device:
    """By name, whatever its case.

    Raises:
        UserError: none of the table.
    """
    for device in _DEVICES:
        if device.name.casefold() == name.casefold():
            return device
    raise UserError(f"--gpu: '{name}' is none of: {', '.join(DEVICES)}")


def seconds(device: Device, one: Pass, size: int) -> float:
    """Of all images of a pass: arithmetic and memory traffic one after the other, but no less than
    starting the kernels takes."""
    if one.kind == "fold":
        return one.images * network.layers() * 10 * LAUNCH_SECONDS
    rate, width = _rate(device, one.precision)
    batch = one.batch if one.kind in ("train", "validate") else max(one.batch, BATCH)
    traffic = _TRAFFIC[one.kind] * width * network.values(size) * one.images
    work = one.flops(size) / (rate * SHARE_OF_PEAK)
    moved = traffic / (device.bandwidth * 1e9 * SHARE_OF_BANDWIDTH)
    started = one.images / batch * _KERNELS[one.kind] * network.layers() * LAUNCH_SECONDS
    return max(work + moved, started)


def _rate(device: Device, precision: str) -> tuple[float, int]:
    """FLOP/s, and bytes of a value."""
    if precision in ("auto", "bf16") and device.bf16:
        return device.bf16 * 1e12, 2
    if precision == "tf32" and device.tf32:
        return device.tf32 * 1e12, 4
    return device.fp32 * 1e12, 4
