"""Runs on virtual time against the built-in cloud, with everything that can go wrong: rehearsals and proofs.

A *story* is a whole run: survey, journal, engine, through the real client, with a modelled disk under the
journal. It is told from a seed; the same seed tells the same story, to the byte of its journal. The judge
is `fleet.referee`, which shares no code with what it judges, and the cloud's own record.
"""
