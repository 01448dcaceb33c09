"""`deploy/compose.yaml` for real, with images: kills and restarts under load, and nothing is lost.

PostgreSQL, Redis and nginx are Debian's in place of their public images; the secrets are those of
make-secrets.sh, nginx's certificate is by an authority of the test's own.
"""

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from sqlmodel import col, func, select

import sandbox
from linekeeper.clock import monotonic
from linekeeper.store.tables import WebhookEvent
from tests.deploy import containers
from tests.deploy.composed import SERVICES, UI, Composed, composed
from tests.deploy.conftest import blocks
from tests.deploy.containers import podman
from tests.e2e.conftest import until
from tests.inbox.process.product import SECRET, listening

LACKING = containers.missing("podman-compose", "openssl")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.e2e,
    pytest.mark.skipif(bool(LACKING), reason=LACKING or ""),
]
A_SECOND = 200
MOST_WAITING = 20 * A_SECOND
"""The sender waits where so many were not taken yet: a slow machine gets fewer a second."""
PATIENCE = 3_600
INSIDE = ("/metrics", "/healthz", "/readyz", "/openapi.json", "/paste", "/prefect/alerts")


async def test_it_runs_behind_tls_and_survives_kills_and_a_rolling_restart(tmp_path: Path) -> None:
    services = await containers.services(tmp_path)
    images = dict.fromkeys(("POSTGRES_IMAGE", "REDIS_IMAGE", "NGINX_IMAGE"), services)
    here = await containers.linekeeper(tmp_path)
    box = sandbox.Settings(port=0, connections=20, records_per_connection=60, retry_scale=0.02)
    async with (
        listening() as product,
        composed(here, box, configured(box, product.url), images) as place,
    ):
        await _only_what_is_for_the_outside_is_outside(place)
        await _links_lead_to_the_browser(place)
        await _secrets_are_files(place)
        for _ in range(2):  # the first adopts what the sandbox lists
            assert (await place.completed("health-sweep"))["state_type"] == "COMPLETED"
        async with _load(place) as killed:
            for name in ("receiver-1", "consumer-1", "worker-1", "receiver-2", "consumer-2"):
                await podman("kill", "--signal=KILL", place.container(name))
                await asyncio.sleep(5)
                await podman("start", place.container(name))
                await place.healthy(name)
        async with _load(place) as restarted:
            await place.types(blocks("With compose")[2])  # a rolling restart
        made = killed["made"] + restarted["made"]
        await until(lambda: quiet(place), seconds=PATIENCE, what="every webhook to be applied")
        truth = await place.truth()
        sent = [one for one in truth["webhooks"] if one["keys"]]
        assert {one["fate"] for one in sent} == {"delivered"}
        assert len(sent) >= made
        became = await statuses(place)
        assert set(became) <= {"processed", "stale"}, became
        ids = await events(place)  # fewer than were sent: what says the same and waits is one

        async def notified() -> bool:
            return ids <= {identity for identity, _ in product.taken}

        await until(notified, seconds=PATIENCE, what="the product")
        assert (await place.completed("reconcile"))["state_type"] == "COMPLETED"
        for what, changes in (("kills", killed), ("rolling restart", restarted)):
            print(f"{what}: {changes['made']} changes, {changes['rate']} a second")
        print(f"{len(sent)} webhooks, {dict(became)}")


def configured(box: sandbox.Settings, product: str) -> dict[str, str]:
    """The settings of the parts: the Makini beside them, and where webhooks go on to."""
    return {
        "LINEKEEPER_MAKINI_CLIENT_ID": box.client_id,
        "LINEKEEPER_MAKINI_CLIENT_SECRET": box.client_secret,
        "LINEKEEPER_MAKINI_WEBHOOK_SECRETS": box.webhook_secret,
        "LINEKEEPER_MAKINI_MODE": "manage",
        "LINEKEEPER_MAKINI_PER_MINUTE": "0",
        "LINEKEEPER_PROBE_MINUTES": "0",
        "LINEKEEPER_FORWARD_URL": product,
        "LINEKEEPER_FORWARD_SECRET": SECRET,
    }


async def _only_what_is_for_the_outside_is_outside(place: Composed) -> None:
    """Over TLS that our authority vouches for; nothing else is answered there."""
    trusting = ssl.create_default_context(cafile=str(place.folder / "authority.pem"))
    outside, inside = f"https://{place.at('nginx')}", f"http://{place.at('nginx')}:8642"
    async with httpx.AsyncClient(verify=trusting, trust_env=False) as client:
        unsigned = await client.post(f"{outside}/webhooks/default", content=b"{}")
        assert unsigned.status_code == 401
        for path in (*INSIDE, "/api/connections", "/api/changes", "/"):
            assert (await client.get(outside + path)).status_code == 404, path
        assert "for a new one" in (await client.get(f"{outside}/connect/none")).text
        assert (await client.get(f"{inside}/readyz")).status_code == 200
        assert "linekeeper_up 1" in (await client.get(f"{inside}/metrics")).text
    async with httpx.AsyncClient(trust_env=False) as distrusting:
        with pytest.raises(httpx.ConnectError):
            await distrusting.get(f"{outside}/connect/none")


async def _links_lead_to_the_browser(place: Composed) -> None:
    """Prefect's UI calls the address a browser reaches, and ours link to it."""
    url = f"http://{place.at('prefect')}:4200/ui-settings"
    login = ("admin", place.secret("prefect_password"))
    assert (await place.http.get(url, auth=login)).json()["api_url"] == f"{UI}/api"
    script = (
        "from tasks.prefect_adapter.links import ui_url; from prefect import get_client; "
        "print(ui_url(get_client()))"
    )
    said = await podman("exec", place.container("consumer-1"), "python3", "-c", script)
    assert said.strip().endswith(UI)


async def _secrets_are_files(place: Composed) -> None:
    """Nobody who may look at a container, or at its environment, has them."""
    said = await podman("inspect", *(place.container(name) for name in SERVICES if name != "setup"))
    for name in ("postgres_password", "linekeeper_encryption_keys", "prefect_password"):
        assert place.secret(name) not in said, name
    for implementation in json.loads(said):
        if (
            implementation["Name"]
            .removeprefix(f"{place.project}_")
            .startswith(("receiver", "worker"))
        ):
            assert implementation["HostConfig"]["ReadonlyRootfs"]


@asynccontextmanager
async def _load(place: Composed) -> AsyncIterator[Counter[str]]:
    """`A_SECOND` changes a second, each announced by a webhook of its own, while the block runs.

    Counted are those that were `made`, and after the block the `rate`: as many a second.
    """
    changes: Counter[str] = Counter()
    begun = monotonic()

    async def go_on() -> None:
        while True:
            notified = await place.truth("?records=0&webhooks=0")
            if notified["webhooks_outstanding"] < MOST_WAITING:
                await place.control("records", change=A_SECOND, per_webhook=1)
                changes["made"] += A_SECOND
            ahead_by = begun + changes["made"] / A_SECOND - monotonic()
            await asyncio.sleep(max(ahead_by, 0.2))

    task = asyncio.create_task(go_on())
    try:
        yield changes
    finally:
        changes["rate"] = round(changes["made"] / (monotonic() - begun))
        assert not task.done(), task.exception()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def quiet(place: Composed) -> bool:
    """Whether every webhook was delivered and applied."""
    notified = await place.truth("?records=0&webhooks=0")
    if not notified["webhooks_outstanding"] and not (await statuses(place))["pending"]:
        return True
    await asyncio.sleep(3)  # asking has its price, too
    return False


async def statuses(place: Composed) -> Counter[str]:
    """How many events there are of each status."""
    async with place.store() as store, store.read() as session:
        rows = await session.execute(
            select(col(WebhookEvent.status), func.count()).group_by(col(WebhookEvent.status))
        )
        return Counter(dict(rows.all()))


async def events(place: Composed) -> set[str]:
    """The ids of every event that was stored."""
    async with place.store() as store, store.read() as session:
        return set(await session.scalars(select(col(WebhookEvent.id))))
