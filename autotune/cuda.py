"""GPUs that the CUDA driver gives this process, in the order of its ordinals.

NVML knows neither CUDA_VISIBLE_DEVICES nor CUDA_DEVICE_ORDER: its GPU 0 may be CUDA's GPU 3. The
CUDA driver applies both itself (numbers, UUIDs and their beginnings, MIG parts, fastest first), so
it is asked which GPU each ordinal is, and NVML's handle is found by UUID, or else by the place on
the PCI bus, never by index: `nvml.find(device.uuid, device.bus_id)`.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from uuid import UUID

_LIBRARY = "libcuda.so.1"


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """A GPU, or a part of one, as CUDA counts them; "" for what the driver does not tell.

    Attributes:
        ordinal: Its number in this process, as in "GPU:0".
        name: The product.
        uuid: "GPU-" and 8-4-4-4-12 hexadecimal digits, as NVML writes it; of a MIG part the
            digits alone.
        bus_id: Its place on the PCI bus, such as "0000:07:00.0".
    """

    ordinal: int
    name: str
    uuid: str
    bus_id: str


def devices() -> list[CudaDevice]:
    """The GPUs that this process may use; none where there is no driver or it fails.

    This makes the driver ready (`cuInit`), but no context, so it takes no memory of a GPU. From
    then on a change of CUDA_VISIBLE_DEVICES has no effect in this process, and CUDA cannot be
    used in a fork of it. A driver that hangs, hangs the caller.
    """
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError:  # no driver
        return []
    count = ctypes.c_int()
    if not (_call(driver, "cuInit", 0) and _call(driver, "cuDeviceGetCount", ctypes.byref(count))):
        return []
    return [_look_at(driver, ordinal) for ordinal in range(count.value)]


def _call(driver: ctypes.CDLL, function: str, *arguments: object) -> bool:
    """Whether the driver has a function and it succeeds."""
    known = getattr(driver, function, None)
    return known is not None and bool(known(*arguments) == 0)


def _look_at(driver: ctypes.CDLL, ordinal: int) -> CudaDevice:
    device = ctypes.c_int()
    if not _call(driver, "cuDeviceGet", ctypes.byref(device), ordinal):
        return CudaDevice(ordinal, name="", uuid="", bus_id="")
    return CudaDevice(
        ordinal,
        name=_text(driver, "cuDeviceGetName", device),
        uuid=_uuid(driver, device),
        bus_id=_text(driver, "cuDeviceGetPCIBusId", device),
    )


def _text(driver: ctypes.CDLL, function: str, device: ctypes.c_int) -> str:
    buffer = ctypes.create_string_buffer(256)
    if not _call(driver, function, buffer, len(buffer), device):
        return ""
    return buffer.value.decode(errors="replace")


def _uuid(driver: ctypes.CDLL, device: ctypes.c_int) -> str:
    """The first function tells of a MIG part the whole GPU's UUID, the second the part's own."""
    whole = _digits(driver, "cuDeviceGetUuid", device)
    own = _digits(driver, "cuDeviceGetUuid_v2", device) or whole  # CUDA 11.4 brought it
    is_part = "" != whole != own
    return own if is_part or not own else f"GPU-{own}"


def _digits(driver: ctypes.CDLL, function: str, device: ctypes.c_int) -> str:
    buffer = ctypes.create_string_buffer(16)
    return str(UUID(bytes=buffer.raw)) if _call(driver, function, buffer, device) else ""
