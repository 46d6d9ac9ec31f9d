"""Engines that act by themselves: by the clock, by events, in search of something."""
