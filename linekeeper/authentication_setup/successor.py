"""A run that goes on with the set-up of a lost one."""

from sqlmodel import col, select

from linekeeper.implementation import work
from linekeeper.runtime import Runtime
from linekeeper.store.tables import AuthenticationSetup


async def take_over(rt: Runtime, lost: str, run_id: str) -> bool:
    """Go on with the set-up of the run `lost`; False where it is over, or another run's."""
    async with rt.store.write() as session:
        rows = await session.scalars(
            select(AuthenticationSetup).where(
                col(AuthenticationSetup.run_id) == lost,
                col(AuthenticationSetup.ended_at).is_(None),
            )
        )
        row = rows.first()
        if row is None:
            return False
        await work.hand_over(session, lost, run_id)
        row.run_id, row.waits_for = run_id, None
        return True
