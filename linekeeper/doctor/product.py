"""Whether the product that webhooks are handed on to can be reached, and safely."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

import aiohttp
import httpx

from linekeeper.config import AppConfig
from linekeeper.doctor.finding import DoctorFinding, ok, warn, wrong
from linekeeper.makini.http_client import bare_request, open_client
from linekeeper.redact import origin
from linekeeper.tls import is_loopback, unreachable_because

_UNREACHABLE = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError, ValueError)


async def examine_product(app: AppConfig, *, seconds: float) -> Sequence[DoctorFinding]:
    """What is to be said of each address the app forwards to. Nothing is posted there."""
    return await asyncio.gather(
        *(_examine(name, to, seconds) for name, to in app.destinations().items())
    )


async def _examine(name: str, to: AppConfig, seconds: float) -> DoctorFinding:
    check, url = f"app {name} · product", to.forward_url or ""
    host, where = urlsplit(url).hostname or "", origin(url)
    if "{" not in host and (trouble := await _trouble(where, seconds)) is not None:
        fix = "make it answer, or correct forward_url of the MakiniApp block; messages wait"
        return wrong(check, f"{where} can't be reached: {trouble}", fix)
    if url.startswith("http:") and not is_loopback(host):
        fix = "use https:// in forward_url of the MakiniApp block"
        return warn(check, f"{where} is not encrypted", fix)
    if not to.forward_secret.get_secret_value() and to.forward_form != "original":
        fix = "set forward_secret of the MakiniApp block, and verify the signature in the product"
        return warn(check, f"{where} gets its messages unsigned", fix)
    return ok(check, f"{where} answers" if "{" not in host else f"{where}, for each connection")


async def _trouble(where: str, seconds: float) -> str | None:
    """Why no HTTP answer comes from there; whichever comes is well, the path is not asked for."""
    client = open_client(where)
    try:
        async with asyncio.timeout(seconds):
            answer = await client.send(bare_request("HEAD", httpx.URL(f"{where}/"), []))
            await answer.aclose()
    except TimeoutError:
        return f"no answer within {seconds:g} s"
    except _UNREACHABLE as error:
        return unreachable_because(error)
    finally:
        await client.aclose()
    return None
