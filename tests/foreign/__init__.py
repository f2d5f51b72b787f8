"""Stores of other schedulers, written by those schedulers themselves."""
