"""A process that reconciles again and again, to be killed; started as a module."""

import asyncio

from linekeeper.reconcile.run import reconcile
from linekeeper.runtime import Runtime


async def main() -> None:
    """Until killed. Every third run lists everything."""
    number = 0
    async with Runtime.open() as rt:
        while True:
            number += 1
            await reconcile(rt, full=number % 3 == 0)


if __name__ == "__main__":
    asyncio.run(main())
