"""Encoder cards, one TOML file each; weights that ship lie in a folder of the card's name."""
