"""The two ways a command of ours ends badly, and the exit code of each.

Exception
├── ValueError  ── InputError    wrong use or bad input        exit code 2
└── RuntimeError ─ CheckError    the work was done, a check failed   exit code 1
"""


class InputError(ValueError):
    """Wrong use or bad input: an unknown encoder, a broken corpus line, an unwritable output."""


class CheckError(RuntimeError):
    """A check failed: an index that lost documents, a score outside its tolerance."""
