"""Several requests in one call: for servers that collect a batch themselves."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from autotune.answers import Rows, join, share_out
from autotune.nesting import Nested


def predict_together(
    predict: Callable[[Nested], Nested], requests: Sequence[Nested]
) -> list[Nested]:
    """Run the rows of several requests in one call, and give each the outputs of its own.

    Requests whose rows have other shapes or dtypes are run in a call of their own. The outputs
    are copies: who keeps one row does not keep the batch.

    Args:
        predict: Runs any number of rows, such as a tuned predictor.
        requests: Arrays of one row or more, nested as the model takes them.

    Raises:
        InvalidSample: A request has no rows.

    Example:
        >>> import numpy as np
        >>> predict_together(lambda x: 2 * x, [np.ones((1, 2)), np.zeros((2, 2))])
        [array([[2., 2.]]), array([[0., 0.], [0., 0.]])]
    """
    rows = [Rows(request) for request in requests]
    of_kind: dict[Hashable, list[int]] = {}
    for place, each in enumerate(rows):
        of_kind.setdefault(each.kind, []).append(place)
    answers: list[Nested] = [None] * len(rows)
    for places in of_kind.values():
        batch = [rows[place] for place in places]
        outputs = predict(join(batch))
        for place, answer in zip(places, share_out(outputs, batch), strict=True):
            answers[place] = answer
    return answers
