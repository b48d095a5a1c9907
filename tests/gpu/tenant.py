"""Another tenant of the GPU: a process that takes memory and holds it until it is told to go.

    python -m tests.gpu.tenant BYTES

It asks the CUDA driver itself, so that it needs no framework. It says "ready" once it holds the
memory; 0 bytes take none, but all that a context takes.
"""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import sys
from collections.abc import Iterator


def main() -> None:
    """Take the memory, say so, and wait for the end of standard input."""
    driver = ctypes.CDLL("libcuda.so.1")
    device, context, pointer = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    check(driver.cuInit(0))
    check(driver.cuDeviceGet(ctypes.byref(device), 0))
    check(driver.cuCtxCreate_v2(ctypes.byref(context), 0, device))
    if int(sys.argv[1]):
        check(driver.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(int(sys.argv[1]))))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()


def check(code: int) -> None:
    """End where a call to the driver failed."""
    if code:
        sys.exit(f"CUDA error {code}")


@contextlib.contextmanager
def tenant(holds_bytes: int) -> Iterator[None]:
    """Have another tenant hold so much memory of GPU 0."""
    command = [sys.executable, "-m", "tests.gpu.tenant", str(holds_bytes)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n", "the tenant got no memory"
        try:
            yield
        finally:
            process.stdin.close()
            process.wait()


if __name__ == "__main__":
    main()
