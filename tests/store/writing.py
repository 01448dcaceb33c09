"""`python -m tests.store.writing CONNECTION`: a process that has the database open, and writes a
pair of tokens when it is told to; told again, it ends."""

import asyncio
import sys

from linekeeper.clock import utcnow
from linekeeper.makini import TokenPair
from linekeeper.runtime import Runtime
from linekeeper.tokens.stored import save_tokens


async def main(connection: str) -> None:
    """Say `open` and `written`; each line that comes tells it to go on."""
    async with Runtime.open(kind="flow run") as rt:
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        pair = {connection: TokenPair("a-new", "r-new", None, minted=False)}
        async with rt.store.write() as session:
            await save_tokens(rt.store, session, pair, now=utcnow())
        print("written", flush=True)
        await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
