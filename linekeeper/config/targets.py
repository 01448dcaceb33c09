"""Where else an app's webhooks may be forwarded: targets with a name, for single connections."""

from collections.abc import Mapping

from pydantic import SecretStr

from linekeeper.config.base import Config
from linekeeper.config.names import SLUG, ForwardForm

_FORMS: tuple[ForwardForm, ...] = ("envelope", "original")


class ForwardTarget(Config):
    """An address of the product, and what signs what is sent there."""

    url: SecretStr
    secret: SecretStr = SecretStr("")
    form: ForwardForm = "envelope"


def parse_targets(text: str) -> dict[str, ForwardTarget]:
    """Targets, one a line: `name = https://… secret form`, the last two optional.

    Raises `ValueError` for a line that is none, without showing what may be a secret.
    """
    found: dict[str, ForwardTarget] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, _, rest = (part.strip() for part in line.partition("="))
        url, *more = rest.split() or [""]
        form = next((form for form in _FORMS if more[-1:] == [form]), None)
        secret = more[: -1 if form else None]
        if not SLUG.fullmatch(name) or name in found:
            raise ValueError(f"line {number}: a target needs a name of its own, such as crm")
        if not url.startswith(("http://", "https://")) or len(secret) > 1:
            raise ValueError(f"line {number}: write {name} = https://… secret")
        found[name] = ForwardTarget(
            url=SecretStr(url),
            secret=SecretStr("".join(secret)),
            form=form or "envelope",
        )
    return found


def targets_text(targets: Mapping[str, ForwardTarget]) -> str:
    """The text that `parse_targets` reads."""
    return "\n".join(
        " ".join(
            part
            for part in (
                f"{name} = {target.url.get_secret_value()}",
                target.secret.get_secret_value(),
                target.form,
            )
            if part
        )
        for name, target in targets.items()
    )
