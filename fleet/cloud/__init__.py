"""Clouds: the protocol that a provider implements, and the providers."""
