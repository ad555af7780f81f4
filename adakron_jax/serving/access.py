"""Access control: tokens, origins, and the paths that clients must not see."""

import hmac
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse

_PATH = re.compile(r"(?<![\w.:/])/(?:[^\s/:;,'\"()]+/)*([^\s/:;,'\"()]+)")
_ORIGIN = re.compile(r"\*|https?://[\w.-]+(:\d+)?|https?://\[[\da-fA-F:]+\](:\d+)?")


class Bearer:
    """ASGI middleware that answers 401 to requests without the token, except for `unguarded` paths."""

    def __init__(self, app: Any, token: str, unguarded: Collection[str]):
        self.app, self.expected, self.unguarded = app, f"Bearer {token}".encode(), unguarded

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].removeprefix(scope["root_path"]) not in self.unguarded:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self.expected):
                refusal = JSONResponse({"error": "no valid bearer token"}, 401, {"WWW-Authenticate": "Bearer"})
                return await refusal(scope, receive, send)
        return await self.app(scope, receive, send)


class Behind:
    """ASGI middleware for a server that a proxy shows under a path, whether or not the proxy strips that path."""

    def __init__(self, app: Any, root_path: str):
        self.app, self.root_path = app, root_path

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["root_path"] = self.root_path
        return await self.app(scope, receive, send)


def read_token(variable: str | None, file: str | None) -> str:
    """Returns the token that requests must carry, stripped of white space; empty if none was set.

    Args:
      variable: the environment variable's value, if it is set.
      file: a file that holds the token.

    Raises:
      ValueError: both are given, the file cannot be read, or it holds no token that a header can carry.
    """
    if variable and file:
        raise ValueError("a token is in ADAKRON_TOKEN and in --token-file; accepted: one of them")
    if file:
        try:
            given = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"token-file is {file!r}, which cannot be read ({type(error).__name__})") from None
    else:
        given = variable or ""
    token = given.strip()
    if (file or given) and not re.fullmatch(r"[!-~]+", token):
        raise ValueError("the token is empty or has other characters; accepted: printable ASCII without spaces")
    return token


def check_origin(origin: str) -> str:
    """Returns an origin that is spelled as browsers send it; ValueError otherwise."""
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(f"cors is {origin!r}; accepted: https://HOST, http://HOST:PORT or *, without a path")
    return origin


def check_root_path(path: str) -> str:
    """Returns the path under which a proxy shows the server; ValueError if it is not a path."""
    if not re.fullmatch(r"(/[\w.~-]+)*", path):
        raise ValueError(f"root-path is {path!r}; accepted: a path such as /adapters, without a slash at its end")
    return path


def without_paths(text: str, names: Mapping[str, str]) -> str:
    """Returns a text in one line, without this machine's paths.

    Args:
      names: path -> the name that a client knows; of all other paths only the last part is kept.
    """
    for path, name in sorted(names.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(f"{path}/", "").replace(path, name)
    return " ".join(_PATH.sub(r"\1", text).split())
