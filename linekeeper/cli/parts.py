"""What `linekeeper up` runs: the parts, their environment, and whether the sandbox is one. Pure."""

import importlib.util
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from linekeeper.cli.prefect_key import prefect_key
from linekeeper.cli.supervisor import Child
from linekeeper.config import AppConfig
from linekeeper.preflight.verdict import vantage_queue
from linekeeper.refusal import UserError
from linekeeper.settings import Settings
from linekeeper.store.configuration import seed
from linekeeper.tls import is_loopback
from tasks.prefect_adapter.server import QUEUES, server_environment, work_pool

if TYPE_CHECKING:
    from sandbox import Settings as Sandbox

SANDBOX_SWEEP_SECONDS = 30.0
Probe = Callable[[str], Callable[[], Awaitable[bool]]]
"""Makes, of a URL, the question whether it answers 200."""


@dataclass(frozen=True, slots=True)
class PartsChoice:
    """What was asked for on the command line; `sandbox` None: as needed."""

    sandbox: bool | None
    schedules: bool
    connections: int
    scenario: str
    seed: int
    night: bool = False
    """Whether the demo's day has its night: quiet hours, which a start nobody asked for has not."""


def wants_sandbox(choice: PartsChoice, settings: Settings, apps: Mapping[str, AppConfig]) -> bool:
    """Whether to start the sandbox: as asked, else if neither settings nor a block has a Makini.

    A block that names this machine is what an earlier sandbox left, not somebody's Makini.
    """
    if choice.sandbox is not None:
        return choice.sandbox
    if seed(settings).apps:
        return False
    return all(is_loopback(urlsplit(app.api_url).hostname or "") for app in apps.values())


def require_sandbox() -> None:
    """The sandbox can be imported.

    Raises:
        UserError: it isn't installed; says how it is, or what to do without.
    """
    if importlib.util.find_spec("sandbox") is None:
        raise UserError(
            "The sandbox is not installed. Install it with: pip install 'linekeeper[sandbox]'. "
            "Or name your Makini: LINEKEEPER_MAKINI_CLIENT_ID, LINEKEEPER_MAKINI_CLIENT_SECRET."
        )


def sandbox_settings(settings: Settings, choice: PartsChoice) -> "Sandbox":
    """The sandbox that goes with `settings`.

    Raises:
        UserError: the sandbox is a distribution of its own, and it isn't installed.
    """
    require_sandbox()
    from sandbox import Settings as Sandbox

    base = settings.local_receiver_url
    return Sandbox(
        port=settings.sandbox_port,
        connections=choice.connections,
        scenario="demo" if choice.scenario == "demo" else "quiet",
        seed=choice.seed,
        state_path=settings.home.resolve() / "sandbox.state",
        webhook_url=f"{base}/webhooks/default",
        slack_actions_url=f"{base}/slack/actions",
    )


def night(
    choice: PartsChoice, settings: Settings, apps: Mapping[str, AppConfig], *, now: datetime
) -> tuple[datetime, datetime] | None:
    """The night of the demo, if asked for, the first time it is started, at `now`; else None."""
    if not (choice.night and choice.schedules) or apps or settings.quiet_hours:
        return None
    from sandbox.scenario import NIGHT_FROM, NIGHT_SECONDS

    first = now + timedelta(seconds=NIGHT_FROM + 59)
    begins = first.replace(second=0, microsecond=0)
    return begins, begins + timedelta(seconds=NIGHT_SECONDS)


def sandbox_url(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.sandbox_port}"


def environment(
    settings: Settings, inherited: Mapping[str, str], sandbox: "Sandbox | None"
) -> dict[str, str]:
    """What every part gets: ours, Prefect's, and what a `.env` file says, wherever it runs.

    With the sandbox its Makini and its Slack take the place of those that are configured, and
    nothing is forwarded or mailed off this machine: made-up trouble must not reach real people or
    the product. Mode and pace are the sandbox's unless set.
    """
    own: dict[str, Any] = {name: getattr(settings, name) for name in settings.model_fields_set}
    own["home"] = settings.home.resolve()
    own["worker"] = settings.worker.strip() or socket.gethostname()
    if sandbox is not None:
        own = {"makini_per_minute": 0, "makini_mode": "manage", "probe_minutes": 0, **own}
        url = sandbox_url(settings)
        own |= {
            "makini_api_url": url,
            "makini_link_url": url,
            "makini_client_id": sandbox.client_id,
            "makini_client_secret": sandbox.client_secret,
            "makini_webhook_secrets": (sandbox.webhook_secret,),
            "makini_webhook_scheme": "makini",
            "notify_customers": settings.notify_customers and _stays_here(settings.smtp_url),
            "forward_url": settings.forward_url if _stays_here(settings.forward_url) else "",
            "forward_targets": "",
            "slack_bot_token": sandbox.slack_token,
            "slack_channel": sandbox.slack_channels[0],
            "slack_signing_secret": sandbox.slack_signing_secret,
            "slack_api_url": f"{url}/slack/api/",
        }
    prefect = {} if inherited.get("PREFECT_API_URL") else server_environment(settings)
    auth = inherited.get("PREFECT_SERVER_API_AUTH_STRING")
    return {
        **({"PREFECT_API_AUTH_STRING": auth} if auth else {}),
        **inherited,
        **prefect,
        **{f"LINEKEEPER_{name.upper()}": _text(v) for name, v in own.items() if v is not None},
    }


def prefect_server(settings: Settings, shared: Mapping[str, str], answers: Probe) -> Child:
    """Prefect's server; the key to its blocks is in its environment alone."""
    return Child(
        "Prefect server",
        (sys.executable, "-m", "linekeeper.cli.prefect_server"),
        {**shared, **prefect_key(settings, shared)},
        is_ready=answers(f"{shared['PREFECT_API_URL']}/health"),
        levels=("CRITICAL",),
        ends_last=True,
    )


def worker(shared: Mapping[str, str]) -> Child:
    """A worker of our pool, with room for as many runs as the cores bear (4 CPU-seconds each).

    It polls the queues of the pool and that of its own vantage, not those of other workers.
    """
    own = vantage_queue(shared["LINEKEEPER_WORKER"])
    return Child(
        "worker",
        (
            *(sys.executable, "-m", "linekeeper.cli.prefect_worker", "worker", "start"),
            *("--pool", work_pool(), "--type", "process", "--no-create-pool-if-not-found"),
            *("--name", f"linekeeper-{socket.gethostname()}"),
            *(f"--work-queue={queue}" for queue in ("default", *QUEUES, own)),
            *("--limit", str(max(4, 2 * (os.cpu_count() or 2))), "--install-policy", "never"),
        ),
        {"PREFECT_WORKER_QUERY_SECONDS": "5", "PREFECT_WORKER_HEARTBEAT_SECONDS": "10", **shared},
        ready_text="started!",
        ready_seconds=480.0,  # it waits for the server, and for the work pool
        levels=("CRITICAL",),
    )


def deployments(
    shared: Mapping[str, str], *, schedules: bool, sandbox: bool, morning: datetime | None = None
) -> Child:
    """The one-off that makes pool, blocks, deployments and automations once the server is there.

    `morning` is when the sandbox's digest comes.
    """
    options = ["--sweep-now"] if schedules else ["--no-schedules"]
    if sandbox:
        options += ["--sweep-seconds", str(SANDBOX_SWEEP_SECONDS)]
        options += ["--morning", f"{morning:%H:%M}"] if morning else []
    return Child(
        "deploy",
        (sys.executable, "-m", "linekeeper.cli.deploy_first", *options),
        shared,
        levels=(),
    )


def consumer(shared: Mapping[str, str]) -> Child:
    """The service that applies webhooks, delivers messages and copies the blocks."""
    return Child(
        "consumer",
        (sys.executable, "-m", "linekeeper.cli", "consumer"),
        shared,
        ready_text="consumer ready",
    )


def receiver(settings: Settings, shared: Mapping[str, str], answers: Probe) -> Child:
    """The HTTP side."""
    return Child(
        "receiver",
        (sys.executable, "-m", "linekeeper.cli", "receiver"),
        shared,
        is_ready=answers(f"{settings.local_receiver_url}/healthz"),
    )


def sandbox(settings: Settings, box: "Sandbox", shared: Mapping[str, str], answers: Probe) -> Child:
    """The Makini and the Slack of this machine."""
    command = [
        *(sys.executable, "-m", "linekeeper.cli", "sandbox", "--port", str(box.port)),
        *("--connections", str(box.connections), "--seed", str(box.seed)),
        *("--scenario", box.scenario, "--state", str(box.state_path)),
        *("--webhook-url", str(box.webhook_url), "--actions-url", str(box.slack_actions_url)),
    ]
    return Child("sandbox", command, shared, is_ready=answers(f"{sandbox_url(settings)}/healthz"))


def _stays_here(url: object) -> bool:
    """Whether what is sent to `url` stays on this machine."""
    return bool(url) and is_loopback(urlsplit(_text(url)).hostname or "")


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(_text(part) for part in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
