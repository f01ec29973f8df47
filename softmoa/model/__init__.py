"""The Audio Spectrogram Transformer with its empty slots, routers, experts and weights."""
