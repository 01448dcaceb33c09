"""What must never be written down in the clear, and everything that could have written it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sqlmodel import col, select

from linekeeper.sandbox import Settings as Sandbox
from linekeeper.store.tables import Credential
from linekeeper.tokens import load_tokens
from tests.e2e.conftest import House

NOT_OURS = ("encryption-keys", "sandbox.state")
"""Where a secret belongs: the keys, and the memory of the sandbox, which stands for Makini."""


async def secrets_now(house: House) -> dict[str, str]:
    """The tokens the house holds at this moment, and what it was given to work with, by name."""
    box = Sandbox()
    found = {
        "client secret": box.client_secret,
        "webhook secret": box.webhook_secret,
        "Slack token": box.slack_token,
        "Slack signing secret": box.slack_signing_secret,
        "encryption key": (house.home / "encryption-keys").read_text().split(",")[0].strip(),
    }
    async with house.store() as store, store.read() as session:
        ids = list(await session.scalars(select(col(Credential.connection_id))))
        for identifier, token in (await load_tokens(store, session, ids)).items():
            found[f"access token of {identifier}"] = token.access
            if token.refresh:
                found[f"refresh token of {identifier}"] = token.refresh
    return found


def leaks(house: House, secrets: Mapping[str, str], said: Sequence[str]) -> list[str]:
    """Where one of `secrets` stands in the clear: in a file of the house, or in `said`."""
    found = []
    for place, content in _written(house, said):
        found += [
            f"{name} in {place}" for name, secret in secrets.items() if secret.encode() in content
        ]
    return found


def _written(house: House, said: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Both databases with their logs, what every process said, Slack, mails."""
    yield "what `up` said", "\n".join(house.said).encode()
    for number, text in enumerate(said):
        yield f"text {number}", text.encode()
    for file in sorted(house.home.rglob("*")):
        if file.is_file() and not file.name.startswith(NOT_OURS):
            yield str(file.relative_to(house.home)), Path(file).read_bytes()
