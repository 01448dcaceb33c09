"""What must never be written down in the clear, and everything that could have written it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
from sqlmodel import col, select

from linekeeper.store.tables import Credential
from linekeeper.tokens.stored import load_pair, load_tokens
from sandbox import Settings as Sandbox
from tests.e2e.conftest import MAIL_ACCOUNT, PRODUCT_SECRET, PRODUCT_TOKENS, House

NOT_OURS = ("encryption-keys", "prefect-encryption-key", "sandbox.state")
"""Where a secret belongs: the keys, and the memory of the sandbox, which stands for Makini."""


async def secrets_now(house: House) -> dict[str, str]:
    """The tokens the house holds at this moment, and what it was given to work with, by name."""
    box = Sandbox()
    found = {
        "client secret": box.client_secret,
        "webhook secret": box.webhook_secret,
        "Slack token": box.slack_token,
        "Slack signing secret": box.slack_signing_secret,
        "password of the mail account": MAIL_ACCOUNT[1],
        "secret of forwards": PRODUCT_SECRET.removeprefix("whsec_"),
        **{f"forward URL's {token.partition('-')[0]}": token for token in PRODUCT_TOKENS},
        "Prefect's encryption key": (house.home / "prefect-encryption-key").read_text().strip(),
        "encryption key": (house.home / "encryption-keys").read_text().split(",")[0].strip(),
    }
    async with house.store() as store, store.read() as session:
        ids = list(await session.scalars(select(col(Credential.connection_id))))
        for identifier, token in (await load_tokens(store, session, ids)).items():
            what = "minted token" if token.minted else "access token"
            found[f"{what} of {identifier}"] = token.access
            pair = await load_pair(store, session, identifier)
            if pair is not None and pair.refresh:
                found[f"refresh token of {identifier}"] = pair.refresh
    return found


def leaks(house: House, secrets: Mapping[str, str], said: Mapping[str, str]) -> list[str]:
    """Where one of `secrets` stands in the clear: in a file of the house, or in what was `said`."""
    found = []
    for place, content in written(house, said):
        found += [
            f"{name} in {place}" for name, secret in secrets.items() if secret.encode() in content
        ]
    return found


def written(house: House, said: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """What was said, what `up` said, its command lines; both databases and every log file.

    Prefect keeps in its database what its runs log, its events, artifacts and forms' answers.
    """
    yield "what `up` said", "\n".join(house.said).encode()
    yield "command lines", "\n".join(_command_lines(house)).encode()
    yield from ((place, text.encode()) for place, text in said.items())
    for file in sorted(house.home.rglob("*")):
        if file.is_file() and not file.name.startswith(NOT_OURS):
            yield str(file.relative_to(house.home)), Path(file).read_bytes()


def _command_lines(house: House) -> Sequence[str]:
    """How every process of the house was called: anybody on the machine can read that."""
    lines = []
    for process in psutil.Process(house.process.pid).children(recursive=True):
        try:
            lines.append(" ".join(process.cmdline()))
        except psutil.NoSuchProcess:
            continue  # a run that is over
    return lines
