"""Checks every setting and peer, and says what to mend."""

from linekeeper.doctor.database import examine_database
from linekeeper.doctor.examine import examine
from linekeeper.doctor.finding import Finding, Level, worst

__all__ = ["Finding", "Level", "examine", "examine_database", "worst"]
