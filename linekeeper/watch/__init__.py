"""Whether every part of Linekeeper lives, watched by whichever part still does."""
