"""Limits on one request."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from adakron_jax.bank.bank import Text
from adakron_jax.data.labels import SURROGATE


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits on one request.

    Attributes:
      body: bytes of the body.
      texts: number of texts.
      characters: characters of one text. A text longer than the adapter reads is cut; one longer than this is refused.
    """

    body: int = 2**20
    texts: int = 256
    characters: int = 20_000

    def check(self, texts: Sequence[Text]) -> None:
        """Raises a fault of 413 or 422 if there are too many texts, or one is too long or not a text."""
        if not 1 <= len(texts) <= self.texts:
            raise HTTPException(413 if texts else 422, f"inputs are {len(texts)} texts; accepted: 1 to {self.texts}")
        for number, text in enumerate(texts):
            for part in (text,) if isinstance(text, str) else text:
                if len(part) > self.characters:
                    raise HTTPException(
                        413, f"text {number} has {len(part)} characters; accepted: at most {self.characters}"
                    )
                if SURROGATE.search(part):
                    raise HTTPException(422, f"text {number} holds half a character; accepted: Unicode")


class BodyLimit:
    """ASGI middleware that answers 413 to a body of more than `most` bytes, whatever its headers say."""

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
