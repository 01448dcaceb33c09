"""Checks every setting and peer, and says what to fix."""

from linekeeper.doctor.examine import examine
from linekeeper.doctor.finding import DoctorFinding, Level, worst
from linekeeper.doctor.house import examine_database

__all__ = ["DoctorFinding", "Level", "examine", "examine_database", "worst"]
