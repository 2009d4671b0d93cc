"""The legacy form protocol 1.5 with all its oddities, over the import core."""
