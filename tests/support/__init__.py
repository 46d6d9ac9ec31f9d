"""The bench the tests stand on: real servers, real processes, no fixed sleeps."""
