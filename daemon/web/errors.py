"""A request that cannot be served: its HTTP status, and one line that says what to do."""

from __future__ import annotations

from stream.errors import QueryError


class ApiError(QueryError):
    """Answered as `{"error": ...}` with `status`. `place`: the key of the body that it is about, where there is one."""

    def __init__(self, status: int, message: str, place: str | None = None) -> None:
        super().__init__(message)
        self.status, self.place = status, place
