"""The prose that a visitor reads, a file per tab; labels stand where they are used."""
