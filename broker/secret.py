"""A secret that does not print.

Duty: carry a secret text from the wire to the response body.
Not its duty: wiping memory; Python cannot promise that.
Rules:

* ``reveal()`` is the only way to the text; call it where the text leaves.
* never printed, formatted, pickled or copied into another type by accident;
* comparison takes constant time and works between secrets only;
* never a key of a mapping (a hash of a secret is a secret).
"""

from __future__ import annotations

import hmac
from typing import Final, NoReturn, final

MASK: Final = "***"


@final
class SecretValue:
    """A secret text.

    Args:
        text: the secret itself; may be empty.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret text. Call it only where the text leaves the process."""
        return self._text

    def __repr__(self) -> str:
        return f"SecretValue({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SecretValue):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SecretValue is not pickled or copied")
