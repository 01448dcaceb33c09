"""The client against the sandbox, which was written from the same contract without it."""

from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr

from linekeeper.config import AppConfig
from linekeeper.makini import ErrorKind, MakiniClient, MakiniError
from sandbox import Settings, serving


@pytest.fixture
async def api_url() -> AsyncIterator[str]:
    async with serving(Settings(port=0, connections=12)) as served:
        yield served.url


def app(api_url: str, **settings: object) -> AppConfig:
    settings = {"mode": "manage", "per_page": 5, "per_minute": 0, **settings}
    secret = SecretStr("sandbox-secret")
    return AppConfig(api_url=api_url, client_id="sandbox-client", client_secret=secret, **settings)


@pytest.mark.parametrize("paging", ["page", "cursor"])
async def test_the_fleet_is_listed_probed_and_read_in_both_styles(
    api_url: str, paging: str
) -> None:
    async with MakiniClient(app(api_url, paging=paging)) as makini:
        assert await makini.check()
        fleet = [listed async for page in makini.list_connections() for listed in page.connections]
        assert len({listed.key for listed in fleet}) == 12
        active = next(listed for listed in fleet if listed.lifecycle == "active")
        pair = await makini.mint_token(active.key)
        assert pair.minted
        assert pair.expires_at is not None
        status = await makini.status(pair.access_token, connection=active.key)
        assert status.id == active.key
        assert status.request_id
        options = {"connection": active.key}
        keys = [
            record["key"]
            async for page in makini.records(pair.access_token, "eam/assets", **options)
            for record in page.records
        ]
        assert len(set(keys)) == len(keys) > 5
        some = [
            record["key"]
            async for page in makini.records(
                pair.access_token, "eam/assets", keys=keys[:3], **options
            )
            for record in page.records
        ]
        assert sorted(some) == sorted(keys[:3])
        record = await makini.record(pair.access_token, "eam/assets", keys[0], **options)
        assert record is not None
        assert record["key"] == keys[0]


async def test_a_refresh_kills_the_old_pair_and_changed_credentials_show_as_fail(
    api_url: str,
) -> None:
    async with MakiniClient(app(api_url)) as makini, httpx.AsyncClient(base_url=api_url) as http:
        fleet = [listed async for page in makini.list_connections() for listed in page.connections]
        key = next(listed.key for listed in fleet if listed.lifecycle == "active")
        old = (await http.get(f"/_control/connections/{key}/tokens")).json()
        new = await makini.refresh(old["refresh_token"], connection=key)
        with pytest.raises(MakiniError) as caught:
            await makini.status(old["access_token"], connection=key)
        assert caught.value.kind is ErrorKind.unauthorized
        await http.post(f"/_control/connections/{key}/change-credentials", json={})
        status = await makini.status(new.access_token, connection=key)
        assert status.sync_status == "fail"
