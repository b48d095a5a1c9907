"""Several requests in one call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autotune.errors import InvalidSample
from autotune.together import predict_together


def test_requests_of_one_kind_share_a_call() -> None:
    """Each gets the outputs of its own rows, in its order; another length is a call of its own."""
    calls: list[int] = []

    def double(rows: dict[str, Any]) -> Any:
        calls.append(len(rows["x"]))
        return {"y": 2 * rows["x"]}

    requests = [{"x": np.full((count, width), count)} for count, width in ((1, 2), (3, 2), (2, 5))]
    answers = predict_together(double, requests)
    assert calls == [4, 2]
    for request, answer in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(answer["y"], 2 * request["x"])
        assert answer["y"].base is None


def test_a_request_without_rows_is_refused() -> None:
    """Nothing runs where one of the requests is no rows."""
    with pytest.raises(InvalidSample, match="no rows"):
        predict_together(pytest.fail, [np.ones((1, 2)), np.ones((0, 2))])
