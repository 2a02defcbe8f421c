"""Reproduction: from an encoder and a test collection to scores, compared with the expected ones."""
