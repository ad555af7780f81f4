"""Who may ask, and from where."""

from pathlib import Path

import pytest

from adakron_jax.serving.access import check_origin, check_root_path, read_token
from tests.serving.conftest import serving


def test_a_token_is_asked_for_where_one_is_set_also_behind_a_proxy_and_of_pages(shelf: Path, tiny: Path) -> None:
    origin = "https://pages.example"
    with serving(shelf / "lora", tiny, token="secret", root_path="/behind", origins=[origin]) as served:
        client, bearing = served.client, {"Authorization": "Bearer secret"}
        assert served.ask("lora", "x").status_code == 401
        assert client.get("/adapters", headers={"Authorization": "Bearer other"}).status_code == 401
        for path in ("/adapters", "/behind/adapters"):  # whether or not the proxy takes its part away
            assert client.get(path).status_code == 401
            assert client.get(path, headers=bearing).status_code == 200
        for path in ("/health", "/behind/health"):
            assert client.get(path).status_code == client.head(path).status_code == 200
        for path in ("/adapters/health", "/behind/adapters/health"):
            assert client.get(path).status_code == 401
        description = client.get("/behind/openapi.json", headers=bearing).json()
        assert description["servers"] == [{"url": "/behind"}]

        asking = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        asking |= {"Access-Control-Request-Headers": "authorization,content-type"}
        before = client.options("/predict", headers=asking)
        assert before.status_code == 200
        assert before.headers["access-control-allow-origin"] == origin
        assert client.options("/predict", headers=asking | {"Origin": "https://other.example"}).status_code == 400
        for headers in (bearing, {}):  # a page can read the refusal too
            answer = client.get("/adapters", headers=headers | {"Origin": origin})
            assert answer.headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize("written", ["secret", "secret\n", " secret\r\n"])
def test_white_space_around_a_token_is_no_part_of_it(written: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(written)
    assert read_token(None, str(tmp_path / "token")) == "secret"
    assert read_token(written, None) == "secret"
    assert read_token(None, None) == read_token("", None) == ""


def test_a_token_that_no_header_can_hold_is_refused(tmp_path: Path) -> None:
    for name, content in {"empty": "\n", "two": "a b", "wide": "schlüssel"}.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match="the token is empty or has other characters"):
            read_token(None, str(tmp_path / name))
    with pytest.raises(ValueError, match="the token is empty"):
        read_token("\n", None)
    with pytest.raises(ValueError, match=r"token-file is .* cannot be read \(FileNotFoundError\)"):
        read_token(None, str(tmp_path / "none"))
    with pytest.raises(ValueError, match="ADAKRON_TOKEN and in --token-file"):
        read_token("a", str(tmp_path / "empty"))


@pytest.mark.parametrize("origin", ["*", "https://a.example", "http://localhost:3000", "http://[::1]:8080"])
def test_an_origin_is_as_browsers_name_it(origin: str) -> None:
    assert check_origin(origin) == origin


@pytest.mark.parametrize("origin", ["a.example", "https://a.example/", "https://a.example/page", "null", ""])
def test_what_no_browser_names_is_no_origin(origin: str) -> None:
    with pytest.raises(ValueError, match="accepted: https://HOST"):
        check_origin(origin)


def test_a_root_path_is_a_path() -> None:
    assert check_root_path("/a/b") == "/a/b"
    for path in ("a", "/", "/a/", "https://a"):
        with pytest.raises(ValueError, match="root-path is"):
            check_root_path(path)
