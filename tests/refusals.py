"""What is refused is refused in one sentence that gives nothing away."""

from collections.abc import Callable

import pytest


def refusal(kind: type[ValueError], act: Callable, *arguments) -> str:
    """The message of what `act(*arguments)` raises."""
    with pytest.raises(kind) as error:
        act(*arguments)
    message = str(error.value)
    assert "\n" not in message and message.endswith(".") and "Error" not in message
    return message
