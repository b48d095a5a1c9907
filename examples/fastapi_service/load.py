"""Put a bounded load on the service, and print how long its answers took.

python load.py http://127.0.0.1:8000 rows.npy --requests 2000 --callers 64
"""

import argparse
import asyncio
import collections
import time

import httpx
import numpy as np


async def put_load(url: str, rows: np.ndarray, requests: int, callers: int) -> None:
    took: list[float] = []
    answers: collections.Counter[int] = collections.Counter()
    numbers = iter(range(requests))

    async def call(client: httpx.AsyncClient) -> None:
        for number in numbers:  # all callers take from the same, so that the load is bounded
            row = rows[number % len(rows)].tolist()
            start = time.perf_counter()
            answer = await client.post("/predict", json={"rows": [row]})
            took.append(time.perf_counter() - start)
            answers[answer.status_code] += 1

    limits = httpx.Limits(max_connections=callers)
    start = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
        await asyncio.gather(*(call(client) for _ in range(callers)))
    seconds = time.perf_counter() - start
    p50, p99 = np.quantile(took, [0.5, 0.99]) * 1e3
    print(f"{answers[200]} answered, {answers[503]} turned away, {answers[504]} too late")
    print(f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, {requests / seconds:,.0f} requests/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="where the service is, such as http://127.0.0.1:8000")
    parser.add_argument("rows", help="a .npy file with rows of a model of one input")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--callers", type=int, default=64)
    given = parser.parse_args()
    asyncio.run(put_load(given.url, np.load(given.rows), given.requests, given.callers))


if __name__ == "__main__":
    main()
