"""Protocols, inference and scores; plain PyTorch."""
