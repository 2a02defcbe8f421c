"""The two ways in which a command of ours fails, and the exit code of each.

Exception
├── ValueError  ── InputError    wrong use or bad input              exit code 2
└── RuntimeError ─ CheckError    the work was done, a check failed   exit code 1
"""

MOST_CHARACTERS = 1_000
"""Length of an error's text at most: even if it quotes a whole file, it stays a sentence."""


class _ShortError(Exception):
    def __str__(self) -> str:
        text = super().__str__()
        if len(text) <= MOST_CHARACTERS:
            return text
        return f"{text[: MOST_CHARACTERS // 2]} [...] {text[-MOST_CHARACTERS // 4 :]}"


class InputError(_ShortError, ValueError):
    """Wrong use or bad input: an unknown encoder, a broken corpus line, an unwritable output."""


class CheckError(_ShortError, RuntimeError):
    """A check failed: an index that lost documents, a score outside its tolerance."""
