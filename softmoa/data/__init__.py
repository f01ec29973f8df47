"""Bytes -> waveform -> log-mel; labelled sounds and where they come from."""
