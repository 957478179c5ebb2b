"""Values and functions. No input, no output, no clock, no randomness: compare to test."""
