"""Draws what people see: progress, status, previews."""
