"""Who may ask, and how much."""

import hmac
from collections.abc import Collection
from typing import Any

from starlette.responses import JSONResponse


class BodyLimit:
    """ASGI middleware that answers 413 to a body of more than `most` bytes, whatever its headers say of it."""

    def __init__(self, app: Any, most: int):
        self.app, self.most = app, most

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        refusal = JSONResponse({"error": f"the body is too large; accepted: {self.most} bytes at most"}, 413)
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self.most:
            return await refusal(scope, receive, send)
        messages, size = [], 0
        while True:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            if size > self.most:
                return await refusal(scope, receive, send)
            if message["type"] != "http.request" or not message.get("more_body"):
                break

        async def replay() -> Any:
            return messages.pop(0) if messages else await receive()

        return await self.app(scope, replay, send)


class Bearer:
    """ASGI middleware that answers 401 to whoever does not bear the token, but for `unguarded` paths."""

    def __init__(self, app: Any, token: str, unguarded: Collection[str]):
        self.app, self.expected, self.unguarded = app, f"Bearer {token}".encode(), unguarded

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] not in self.unguarded:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self.expected):
                refusal = JSONResponse({"error": "no valid bearer token"}, 401, {"WWW-Authenticate": "Bearer"})
                return await refusal(scope, receive, send)
        return await self.app(scope, receive, send)
