"""Which domain is looked at, for methods that answer by domain at test time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_domain: ContextVar[int | None] = ContextVar("looking_at", default=None)


@contextmanager
def looking_at(domain: int) -> Iterator[None]:
    """Inside, :func:`looked_at` is this domain; scopes nest."""
    token = _domain.set(domain)
    try:
        yield
    finally:
        _domain.reset(token)


def looked_at(who: str) -> int:
    """Number of the domain whose scope is entered.

    Raises:
        RuntimeError: Outside of any scope; names the method that asked.
    """
    domain = _domain.get()
    if domain is None:
        raise RuntimeError(
            f"{who} answers by domain and does not know which one it is looking at: wrap the call in "
            "`with alignment.scope(domain):`, or use `alignment.export(model, domain)`"
        )
    return domain
