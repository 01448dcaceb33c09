"""Makini Link: the customer's way through the login and back."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from .conftest import Box

BACK = "http://127.0.0.1:9/oauth/callback?from=link"


def _asked(box: Box, **more: str) -> dict[str, str]:
    return {
        "response_type": "code",
        "client_id": box.world.settings.client_id,
        "redirect_uri": BACK,
        "state": "s-1",
        **more,
    }


async def _approve(box: Box, key: str, **more: str) -> httpx.Response:
    form = _asked(box, connection=key, username="pat", password="new one", answer="approve")
    return await box.http.post("/oauth/authorize", data={**form, **more})


async def _exchange(box: Box, code: str) -> httpx.Response:
    settings = box.world.settings
    return await box.http.post(
        "/link/token",
        data={
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": BACK,
            "client_id": settings.client_id,
            "client_secret": settings.client_secret,
        },
    )


async def test_logging_in_again_mends_the_login_and_gives_a_new_pair(box: Box) -> None:
    key = (await box.keys())[0]
    old = await box.as_connection(key)
    await box.act(key, "change-credentials")
    answer = await _approve(box, key)
    assert answer.status_code == 302
    back = urlsplit(answer.headers["location"])
    query = parse_qs(back.query)
    assert (back.path, query["state"], query["from"]) == ("/oauth/callback", ["s-1"], ["link"])
    pair = (await _exchange(box, query["code"][0])).json()
    new = {"Authorization": f"Bearer {pair['access_token']}"}
    status = await box.http.get("/api/integrations/current", headers=new)
    assert status.json()["data"]["id"] == key
    assert status.json()["data"]["sync_status"] == "done"
    assert (await box.http.get("/api/integrations/current", headers=old)).status_code == 401


async def test_a_code_is_good_once(box: Box) -> None:
    answer = await _approve(box, (await box.keys())[0])
    code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
    assert (await _exchange(box, code)).status_code == 200
    second = await _exchange(box, code)
    assert (second.status_code, second.json()["code"]) == (400, "INVALID_GRANT")


async def test_denying_leads_back_with_an_error_and_the_state(box: Box) -> None:
    answer = await _approve(box, (await box.keys())[0], answer="deny")
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    assert (query["error"], query["state"]) == (["access_denied"], ["s-1"])


@pytest.mark.parametrize("password", ["", "wrong"])
async def test_a_wrong_password_stays_on_the_page_and_mends_nothing(
    box: Box, password: str
) -> None:
    key = (await box.keys())[0]
    await box.act(key, "change-credentials")
    answer = await _approve(box, key, password=password)
    assert answer.status_code == 422
    assert (await box.status(key)).json()["data"]["sync_status"] == "fail"


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": "x"},
        {"response_type": "token"},
        {"redirect_uri": "https://elsewhere.example/"},
        {"redirect_uri": "javascript:alert(1)"},
    ],
)
async def test_a_link_that_is_wrong_leads_nowhere(box: Box, wrong: dict[str, str]) -> None:
    shown = await box.http.get("/oauth/authorize", params={**_asked(box), **wrong})
    assert shown.status_code == 400
    assert "<form" not in shown.text
    sent = await _approve(box, (await box.keys())[0], **wrong)
    assert sent.status_code == 400


async def test_a_new_system_can_be_connected(box: Box) -> None:
    answer = await _approve(box, "new:fiix")
    code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
    pair = (await _exchange(box, code)).json()
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    status = await box.http.get("/api/integrations/current", headers=headers)
    assert status.json()["data"]["provider"] == "fiix"
    assert len(await box.keys()) == 25


async def test_the_login_that_was_lost_comes_first_on_the_page(box: Box) -> None:
    key = (await box.keys())[5]
    await box.act(key, "change-credentials")
    shown = await box.http.get("/oauth/authorize", params=_asked(box))
    assert shown.text.index(f'value="{key}"') < shown.text.index("<option value=", 0) + 40
    assert "(Reauthorization required)" in shown.text
