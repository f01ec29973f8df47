"""Soft-MoA Lab: Soft Mixture of Adapters for the Audio Spectrogram Transformer."""
