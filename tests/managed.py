"""Settings with which a runtime manages the sandbox."""

from typing import Any

from pydantic import SecretStr

from linekeeper.settings import Settings


def managed(settings: Settings, url: str, **differently: Any) -> Settings:
    """`settings` of who manages the fleet of the sandbox at `url`, looks at all of it in each sweep
    and may ask as often as it likes, but for what is given `differently`."""
    usual: dict[str, Any] = {
        "makini_api_url": url,
        "makini_client_id": "sandbox-client",
        "makini_client_secret": SecretStr("sandbox-secret"),
        "makini_mode": "manage",
        "makini_per_minute": 0,
        "probe_minutes": 0,
    }
    return settings.model_copy(update={**usual, **differently})
