"""Files: whole or absent, stamped, read by line, parsed as tables, written as pages."""
