"""`deploy/nginx.conf` itself, with its addresses changed: two receivers behind Debian's nginx."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import orjson
import pytest
from sqlmodel import col, func, select

from linekeeper.settings import Settings
from linekeeper.store import Store
from linekeeper.store.tables import WebhookEvent
from tests.canary.test_canary_way import certificate
from tests.deploy.conftest import run
from tests.deploy.test_files import DEPLOY
from tests.e2e.conftest import until
from tests.receiver.conftest import SECRET, signature
from tests.receiver.processes import free_port, part

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(
        NGINX is None, reason="not installed: nginx. As root on Debian `make soak` installs it"
    ),
]
INSIDE = ("/", "/api/connections", "/metrics", "/healthz", "/readyz", "/paste", "/prefect/alerts")
AROUND = """daemon off; pid {folder}/pid; error_log {folder}/errors;
events {{}}
http {{
access_log off;
client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
include {folder}/linekeeper.conf;
}}
"""


@asynccontextmanager
async def nginx(folder: Path, first: str, second: str) -> AsyncIterator[str]:
    """nginx as the file says, before the receivers at `first` and `second`; its address."""
    pem, port = certificate(folder, "localhost", days=2), free_port()
    text = (DEPLOY / "nginx.conf").read_text()
    for theirs, ours in (
        ("10.0.0.11:8642", first),
        ("10.0.0.12:8642", second),
        ("443", f"127.0.0.1:{port}"),
        ("/etc/ssl/linekeeper.pem", str(pem)),
        ("/etc/ssl/linekeeper.key", str(pem)),
    ):
        assert theirs in text
        text = text.replace(theirs, ours)
    (folder / "linekeeper.conf").write_text(text)
    configuration = folder / "nginx.conf"
    configuration.write_text(AROUND.format(folder=folder))
    assert NGINX is not None
    await run(NGINX, "-t", "-c", configuration, "-e", folder / "errors")
    process = await asyncio.create_subprocess_exec(
        NGINX, "-c", str(configuration), "-e", str(folder / "errors")
    )
    try:
        yield f"https://localhost:{port}"
    finally:
        process.terminate()
        await process.wait()


async def test_only_what_is_for_the_outside_is_outside_and_one_receiver_may_die(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with (
        part("receiver", settings, log) as one,
        part("receiver", settings, log) as other,
        nginx(tmp_path, *(each.url.removeprefix("http://") for each in (one, other))) as outside,
        httpx.AsyncClient(
            verify=ssl.create_default_context(cafile=str(tmp_path / "localhost-2.pem")),
            trust_env=False,
            timeout=60,
        ) as client,
    ):

        async def answers() -> bool:
            try:
                answer = await client.post(f"{outside}/webhooks/default", content=b"{}")
            except httpx.ConnectError:
                return False
            return answer.status_code == 401

        await until(answers, seconds=60, what="nginx")
        for path in INSIDE:
            assert (await client.get(outside + path)).status_code == 404, path
        assert "for a new one" in (await client.get(f"{outside}/connect/none")).text

        async def deliver(number: int) -> int:
            body = orjson.dumps({"id": f"w{number}", "event": "assets.updated", "body": ["1"]})
            headers = {"x-webhook-signature": signature(body, SECRET)}
            answer = await client.post(f"{outside}/webhooks/default", content=body, headers=headers)
            return answer.status_code

        assert {await deliver(number) for number in range(20)} == {200}
        await one.kill()
        assert {await deliver(number) for number in range(20, 60)} == {200}
        async with store.read() as session:
            assert await session.scalar(select(func.count(col(WebhookEvent.id)))) == 60
