"""Minutes a month in which a connection was not healthy, by what was waited for."""
