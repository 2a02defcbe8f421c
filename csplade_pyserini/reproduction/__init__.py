"""From an encoder to a table of scores that are held against the expected ones."""
