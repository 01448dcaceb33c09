"""A product that reads work orders through Makini with the token Linekeeper gives it.

LINEKEEPER_URL=… LINEKEEPER_KEY=lk_… MAKINI_URL=… python product.py CONNECTION
"""

import os
import sys

import httpx
from linekeeper_client import Linekeeper, LoginLost


def read(linekeeper: Linekeeper, makini: httpx.Client, connection: str) -> httpx.Response:
    """The first page of work orders; a refused token is told and asked for once more."""
    for _ in range(2):
        bearer = {"Authorization": f"Bearer {linekeeper.token(connection)}"}
        answer = makini.get("/api/eam/work-orders", params={"per_page": 10}, headers=bearer)
        if answer.status_code != 401:
            break
        linekeeper.call_failed(connection, answer)
    return answer


def main(connection: str) -> int:
    """Print what was read; 1 where nothing could be, and why."""
    url, key = os.environ["LINEKEEPER_URL"], os.environ["LINEKEEPER_KEY"]
    makini_url = os.environ.get("MAKINI_URL", "https://api.makini.io")
    with Linekeeper(url, key) as linekeeper, httpx.Client(base_url=makini_url) as makini:
        try:
            answer = read(linekeeper, makini, connection).raise_for_status()
        except LoginLost as lost:
            print(f"wait for the customer: {lost} (incident {lost.incident})")
            return 1
        except httpx.HTTPStatusError as error:
            answer = error.response
            print(f"{answer.request.url} answered {answer.status_code}: {answer.text[:200]}")
            return 1
        except httpx.HTTPError as error:
            print(f"no answer ({type(error).__name__}): is it running, and is the address right?")
            return 1
        orders = answer.json()["data"]
        print(f"{len(orders)} work orders:")
        for order in orders:
            print(f"  {order['key']}  {order.get('title', '')}")
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
