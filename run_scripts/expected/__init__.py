"""Expected scores as data: a file a source, a table an encoder."""
