"""Weights & Biases as a process of its own: what training and reports send to, and what reads it back."""
