"""Reproduction: scores of an encoder on a test collection, and whether they are as expected."""
