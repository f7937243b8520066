"""Readers: one module a raw layout, raw files -> records."""
