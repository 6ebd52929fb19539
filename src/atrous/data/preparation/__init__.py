"""Bringing the papers' data sets onto this machine: what to download, safe unpacking, conversion."""
