"""One sound from inside."""
