"""`python -OO` removes docstrings; transformers makes new ones of them, and fails without. It need not.

This is called before transformers' models are imported. Without -OO it does nothing.
"""

import sys
from typing import Any

REMOVES_DOCSTRINGS = 2


def make_no_docstrings() -> None:
    """Have transformers leave the docstrings of its models as they are, if this Python has removed them."""
    if sys.flags.optimize < REMOVES_DOCSTRINGS:
        return
    import transformers.utils

    transformers.utils.auto_docstring = _left_alone


def _left_alone(decorated: Any = None, **_: Any) -> Any:
    """Decorator, with or without arguments, that changes nothing."""
    if decorated is not None:
        return decorated
    return _left_alone
