"""Reinstall the operating systems of a fleet of cloud servers, in waves, from a plan."""

__version__ = "0.1.0"
