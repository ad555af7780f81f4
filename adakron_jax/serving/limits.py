"""A limit on the size of requests."""

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
