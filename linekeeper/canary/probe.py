"""The canary: one signed synthetic event through the public address, and what came of it.

This file alone is the program for any other machine, cron or monitoring service: it needs Python
3.11 and nothing else (`python3 probe.py URL --secret-file FILE`). `linekeeper canary` wraps it.
"""

import argparse
import base64
import binascii
import hashlib
import hmac
import http.client
import json
import os
import socket
import ssl
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlsplit

EVENT = "linekeeper.canary"
SECRETS, SCHEME, KEY = (
    "LINEKEEPER_MAKINI_WEBHOOK_SECRETS",
    "LINEKEEPER_MAKINI_WEBHOOK_SCHEME",
    "LINEKEEPER_KEY",
)
"""The variables of the environment that are read; secrets are never arguments."""
TIMEOUT_SECONDS = 10.0
MOST_SECONDS = 86_400
ASK_EVERY_SECONDS = 0.5
_WEBHOOKS = "/webhooks/"
_MAX_ANSWER = 65_536

What = Literal[
    "dns",
    "refused",
    "no_answer",
    "unreachable",
    "certificate",
    "tls",
    "broken_off",
    "redirect",
    "proxy",
    "wrong_secret",
    "wrong_scheme",
    "no_secret",
    "clock",
    "unknown_app",
    "storage",
    "busy",
    "rejected",
    "key",
    "api_away",
    "not_processed",
    "product_refused",
    "not_forwarded",
    "no_echo",
]


class BadOrder(Exception):
    """What was given can't be used; the message says what to give instead."""


class Fault(Exception):
    """What is wrong, in one sentence with what to do."""

    def __init__(self, what: What, text: str) -> None:
        super().__init__(text)
        self.what = what


class Origin(NamedTuple):
    """Where Linekeeper is: an address, and the path that stands before its routes."""

    is_tls: bool
    host: str
    port: int
    prefix: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class CanaryOrder:
    """Where to send the canary, signed with what, and how long to wait for what comes of it."""

    origin: Origin
    path: str
    secret: str
    scheme: str
    timeout: float
    tls: ssl.SSLContext | None
    api: Origin
    key: str
    wait: float
    echo: bool


class HttpAnswer(NamedTuple):
    """An HTTP answer; `said` is its JSON where that is an object."""

    status: int
    said: Mapping[str, Any]
    location: str

    @property
    def error(self) -> str:
        """What Linekeeper calls the refusal; empty where somebody else answered."""
        error = self.said.get("error")
        return error if isinstance(error, str) else ""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one canary."""

    ok: bool
    text: str
    what: What | None = None
    id: str | None = None
    """The event's id at Linekeeper, where it was stored."""
    seen: Mapping[str, Any] | None = None
    """What `GET /api/canary/{id}` said last."""


def take_order(
    url: str,
    *,
    secret: str,
    scheme: str = "makini",
    timeout: float = TIMEOUT_SECONDS,
    ca_file: str | None = None,
    wait: float = 0.0,
    key: str = "",
    api_url: str | None = None,
    echo: bool = False,
) -> CanaryOrder:
    """The order that was given. Raises `BadOrder`."""
    origin, path = _origin(url)
    if _WEBHOOKS in f"{path}/":
        prefix = path.partition(_WEBHOOKS)[0]
        origin = origin._replace(prefix=prefix)
    else:
        origin, path = origin._replace(prefix=path), f"{path}{_WEBHOOKS}default"
    secret = next((part.strip() for part in secret.split(",") if part.strip()), "")
    if not secret:
        raise BadOrder(f"give the webhook secret: {SECRETS} in the environment, or --secret-file")
    if scheme not in ("makini", "standard"):
        raise BadOrder(f"--scheme or {SCHEME} is makini or standard")
    if not (0 < timeout <= MOST_SECONDS and 0 <= wait <= MOST_SECONDS):
        raise BadOrder(f"seconds are from 0 to {MOST_SECONDS}")
    if echo and not wait:
        raise BadOrder("--echo needs --wait SECONDS")
    key = key.strip()
    if wait and not (key.isascii() and key.isprintable() and key):
        raise BadOrder(
            f"waiting needs a key with the scope canary:write: {KEY} in the environment, "
            "or --key-file (linekeeper key add canary --scope canary:write)"
        )
    api = origin if api_url is None else _api_origin(api_url)
    tls = None
    if origin.is_tls or api.is_tls:
        try:
            tls = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise BadOrder(f"{ca_file} can't be used as a certificate authority: {error}") from None
    return CanaryOrder(origin, path, secret, scheme, timeout, tls, api, key, wait, echo)


def _origin(url: str) -> tuple[Origin, str]:
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise BadOrder("give the public address, such as https://linekeeper.example.com")
    is_tls = parts.scheme == "https"
    path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
    return Origin(is_tls, host, port or (443 if is_tls else 80), ""), path


def _api_origin(url: str) -> Origin:
    origin, path = _origin(url)
    return origin._replace(prefix=path)


def fly(order: CanaryOrder) -> Report:
    """Send one canary, and wait for what comes of it if that was ordered. Never raises."""
    identifier = None
    seen: Mapping[str, Any] | None = None
    try:
        identifier = send(order)
        if not order.wait:
            return Report(True, f"The canary was stored as event {identifier}.", id=identifier)
        until = time.monotonic() + order.wait
        while True:
            seen = _ask_about(order, identifier)
            left = until - time.monotonic()
            if is_done(seen, order, is_last=left <= 0):
                return Report(True, _good(seen, order), id=identifier, seen=seen)
            time.sleep(min(ASK_EVERY_SECONDS, left))
    except Fault as fault:
        return Report(False, str(fault), fault.what, identifier, seen)


def send(order: CanaryOrder) -> str:
    """Post the canary; the id of the stored event. Raises `Fault`."""
    identity = f"canary-{uuid.uuid4()}"
    sent_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    body = json.dumps({"id": identity, "event": EVENT, "timestamp": sent_at}).encode()
    headers = {"content-type": "application/json", **_signed(order, identity, body)}
    answer = _exchange(order.origin, order, ("POST", order.path), headers=headers, body=body)
    identifier = answer.said.get("id")
    if (
        answer.status == 200
        and isinstance(identifier, str)
        and answer.said.get("status") in ("accepted", "duplicate")
    ):
        return identifier
    raise _refusal(order, answer)


def _signed(order: CanaryOrder, identity: str, body: bytes) -> dict[str, str]:
    if order.scheme == "makini":
        key = order.secret.encode("utf-8", "surrogatepass")
        return {"x-webhook-signature": hmac.new(key, body, hashlib.sha256).hexdigest()}
    text = order.secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = text.encode("utf-8", "surrogatepass")
    stamp = str(int(time.time()))
    content = b"%b.%b.%b" % (identity.encode(), stamp.encode(), body)
    signature = base64.b64encode(hmac.digest(key, content, "sha256")).decode()
    return {
        "webhook-id": identity,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{signature}",
    }


_SIGNATURE: tuple[What, str] = (
    "wrong_secret",
    "Linekeeper refuses the signature ({answer}): the secret here (of several, the first) is "
    "none of those in the block Makini App, or something on the way changes the request. Compare "
    "it with the block and with Makini's.",
)
_TIME: tuple[What, str] = (
    "clock",
    "Linekeeper refuses the canary's time ({answer}): set this machine's clock or the receiver's, "
    "which are minutes apart.",
)
_BUSY: tuple[What, str] = (
    "busy",
    "Linekeeper's receiver takes nothing now ({answer}): if this stays so, restart it or start "
    "more receivers.",
)
_REFUSALS: Mapping[str, tuple[What, str]] = {
    "no_secret": (
        "no_secret",
        "Linekeeper has no webhook secret for this app ({answer}): enter it in the block Makini "
        "App; until then every webhook is turned away.",
    ),
    **dict.fromkeys(("bad_signature", "malformed_signature"), _SIGNATURE),
    **dict.fromkeys(
        ("no_signature", "no_id"),
        (
            "wrong_scheme",
            "Linekeeper finds no signature ({answer}): this app's webhooks are signed by another "
            "scheme than {scheme}, or something on the way removes headers. Say --scheme standard "
            "or --scheme makini, as the block Makini App does.",
        ),
    ),
    **dict.fromkeys(("bad_timestamp", "stale_timestamp"), _TIME),
    "unknown_app": (
        "unknown_app",
        "Linekeeper knows no such Makini app ({answer} for {path}): correct the name after "
        "/webhooks/, or enter the app as a block Makini App.",
    ),
    "storage": (
        "storage",
        "Linekeeper's receiver answers, but its database can't store ({answer}): look at the "
        "database, then run linekeeper doctor.",
    ),
    **dict.fromkeys(("busy", "stopping"), _BUSY),
    **dict.fromkeys(
        ("unknown_route", "method", "too_large", "content_encoding", "too_slow", "internal"),
        (
            "rejected",
            "Linekeeper's receiver turned the canary away ({answer} for {path}): correct the "
            "address, and look at the receiver's log.",
        ),
    ),
}
"""What Linekeeper itself answers, by the word in it."""


def _refusal(order: CanaryOrder, answer: HttpAnswer) -> Fault:
    """Why the canary was not stored."""
    known = _REFUSALS.get(answer.error)
    if known is None:
        return _of_somebody_else(order.origin, answer)
    what, text = known
    said = f"{answer.status} {answer.error}"
    return Fault(what, text.format(answer=said, path=order.path, scheme=order.scheme))


def _of_somebody_else(origin: Origin, answer: HttpAnswer) -> Fault:
    status = answer.status
    if 300 <= status < 400:
        return Fault(
            "redirect",
            f"{origin} redirects to {answer.location or 'another address'} ({status}): Makini "
            "follows no redirect, so give both the address that answers itself.",
        )
    if status in (502, 504, 503):
        return Fault(
            "proxy",
            f"A proxy at {origin} answers, but doesn't reach Linekeeper's receiver ({status}): "
            "start the receiver, or correct the proxy's upstream.",
        )
    if status in (401, 403, 407, 429):
        return Fault(
            "proxy",
            f"Something in front of Linekeeper at {origin} turns callers away ({status}): let "
            "POST /webhooks/ through without a login, a filter or a limit.",
        )
    return Fault(
        "proxy",
        f"Something other than Linekeeper answers at {origin} ({status}): correct the address, or "
        "the proxy's route to the receiver.",
    )


def _ask_about(order: CanaryOrder, identifier: str) -> Mapping[str, Any]:
    """What Linekeeper knows of the canary. Raises `Fault`."""
    path = f"{order.api.prefix}/api/canary/{identifier}"
    headers = {"authorization": f"Bearer {order.key}"}
    answer = _exchange(order.api, order, ("GET", path), headers=headers)
    if answer.status == 200 and "processed_at" in answer.said:
        return answer.said
    if answer.error and answer.status in (401, 403):
        raise Fault(
            "key",
            f"The canary was stored, but the key may not ask about it ({answer.status}: "
            f"{answer.error}): make one with linekeeper key add canary --scope canary:write.",
        )
    if answer.error and answer.status == 503:
        raise Fault(
            "storage",
            "The canary was stored, but Linekeeper's database can't be read now (503): look at "
            "the database, then run linekeeper doctor.",
        )
    raise Fault(
        "api_away",
        f"The canary was stored, but {order.api} doesn't say what came of it ({answer.status}): "
        "if /api is not public there, give the receiver's own address with --api-url.",
    )


def is_done(seen: Mapping[str, Any], order: CanaryOrder, *, is_last: bool) -> bool:
    """Whether all that is waited for has come. Raises `Fault` for what never will, or in time."""
    forward, error = seen.get("forward"), seen.get("forward_error")
    status = seen.get("status")
    if status not in ("pending", "processed"):
        raise Fault(
            "not_processed",
            f"The canary was stored, but ended {status}: run linekeeper explain with its id.",
        )
    if forward == "dead":
        raise Fault("product_refused", _refused_by_product(error))
    if not seen.get("processed_at"):
        if is_last:
            raise Fault(
                "not_processed",
                f"The canary was stored, but not processed within {order.wait:g} s: start the "
                "consumer (linekeeper consumer), or see in linekeeper doctor what it is busy with.",
            )
        return False
    if forward == "pending":
        if is_last and error:
            raise Fault("product_refused", _refused_by_product(error))
        if is_last:
            raise Fault(
                "not_forwarded",
                f"The canary was processed, but not handed to the product within {order.wait:g} s: "
                "the consumer is behind; run linekeeper doctor.",
            )
        return False
    if order.echo and not seen.get("echoed_at"):
        if is_last:
            raise Fault(
                "no_echo",
                "The canary was handed on, but the product did not echo it: look whether the "
                "product works off its queue, and posts the id to /api/canary.",
            )
        return False
    return True


def _refused_by_product(error: object) -> str:
    return (
        f"The canary was processed, but the product did not take it ({error or 'no answer'}): "
        "look at the product, its address and secret (FORWARD_URL, FORWARD_SECRET); any 2xx is a "
        "yes."
    )


def _good(seen: Mapping[str, Any], order: CanaryOrder) -> str:
    end = "processed"
    if seen.get("forward") == "sent":
        end = "processed and taken by the product"
    if order.echo:
        end += ", which echoed it"
    return f"The canary was stored, {end}."


def _exchange(
    origin: Origin,
    order: CanaryOrder,
    request: tuple[str, str],
    *,
    headers: Mapping[str, str],
    body: bytes | None = None,
) -> HttpAnswer:
    """One request on a connection of its own. Raises `Fault` where there is no HTTP answer."""
    connected = _connect(origin, order.timeout)
    client = http.client.HTTPSConnection if origin.is_tls else http.client.HTTPConnection
    connection = client(origin.host, origin.port, timeout=order.timeout)
    try:
        connection.sock = _secure(connected, origin, order)
        connection.request(*request, body=body, headers=dict(headers))
        answer = connection.getresponse()
        content = answer.read(_MAX_ANSWER)
    except TimeoutError:
        raise Fault(
            "no_answer",
            f"{origin} took the connection but did not answer within {order.timeout:g} s: the "
            "receiver or the proxy hangs; restart it.",
        ) from None
    except (http.client.HTTPException, OSError) as error:
        raise Fault(
            "broken_off",
            f"{origin} broke the exchange off ({type(error).__name__}): see the log of the proxy "
            "and the receiver, and whether the port speaks HTTP"
            f"{'S' if origin.is_tls else ' (not HTTPS)'}.",
        ) from None
    finally:
        connection.close()
        connected.close()
    return HttpAnswer(answer.status, _object(content), answer.headers.get("location", "")[:200])


def _connect(origin: Origin, timeout: float) -> socket.socket:
    try:
        addresses = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Fault(
            "dns",
            f"The name {origin.host} can't be resolved here ({error}): correct its DNS record, or "
            "this machine's resolver.",
        ) from None
    problem: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        connected = socket.socket(family, kind, protocol)
        connected.settimeout(timeout)
        try:
            connected.connect(address)
        except OSError as error:
            connected.close()
            problem = error
        else:
            return connected
    if isinstance(problem, ConnectionRefusedError):
        raise Fault(
            "refused",
            f"Nobody listens at {origin} (connection refused): start the receiver or the proxy in "
            "front of it.",
        )
    if isinstance(problem, TimeoutError):
        raise Fault(
            "no_answer",
            f"{origin} does not answer within {timeout:g} s: the machine is off, or a firewall "
            "drops what comes from here.",
        )
    raise Fault(
        "unreachable",
        f"{origin} can't be reached from here ({problem}): look at the route and the firewall.",
    )


def _secure(connected: socket.socket, origin: Origin, order: CanaryOrder) -> socket.socket:
    if not origin.is_tls or order.tls is None:
        return connected
    try:
        return order.tls.wrap_socket(connected, server_hostname=origin.host)
    except ssl.SSLCertVerificationError as error:
        raise Fault(
            "certificate",
            f"The certificate of {origin} is not accepted ({error.verify_message}): renew or "
            "correct it, with its chain; Makini refuses it too.",
        ) from None
    except ssl.SSLError as error:
        raise Fault(
            "tls",
            f"{origin} speaks no TLS that works ({error.reason or 'no handshake'}): look at the "
            "proxy's TLS settings, and whether the port is that of HTTPS.",
        ) from None


def _object(content: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_secret(path: str | None, variable: str) -> str:
    """The first line of a file, or a variable of the environment. Raises `BadOrder`."""
    if path is None:
        return os.environ.get(variable, "")
    try:
        return Path(path).read_text(encoding="utf-8").strip().partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadOrder(f"{path} can't be read: {getattr(error, 'strerror', 'no text')}") from None


def as_json(report: Report) -> str:
    """The report for a program."""
    return json.dumps(asdict(report), ensure_ascii=False)


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 it went through, 1 it did not, and why is said; 2 no such option."""
    parser = argparse.ArgumentParser(
        prog="canary", description="Send one signed synthetic event the way Makini's go."
    )
    parser.add_argument("url", metavar="URL", help="the public address, or …/webhooks/APP")
    parser.add_argument("--secret-file", metavar="FILE", help=f"otherwise {SECRETS} is read")
    parser.add_argument(
        "--scheme", metavar="NAME", help=f"makini or standard; otherwise {SCHEME} is read"
    )
    parser.add_argument("--key-file", metavar="FILE", help=f"otherwise {KEY} is read")
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--echo", action="store_true", help="wait for the product's echo too")
    parser.add_argument("--api-url", metavar="URL", help="where /api is, if not at URL")
    parser.add_argument("--ca-file", metavar="FILE", help="your own certificate authority, PEM")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, metavar="SECONDS")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    try:
        order = take_order(
            given.url,
            secret=read_secret(given.secret_file, SECRETS),
            scheme=given.scheme or os.environ.get(SCHEME) or "makini",
            timeout=given.timeout,
            ca_file=given.ca_file,
            wait=given.wait,
            key=read_secret(given.key_file, KEY) if given.wait else "",
            api_url=given.api_url,
            echo=given.echo,
        )
    except BadOrder as error:
        sys.stderr.write(f"canary: {error}\n")
        return 1
    report = fly(order)
    text = as_json(report) if given.json else report.text
    (sys.stdout if report.ok or given.json else sys.stderr).write(text + "\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
