"""From a vision transformer to the embedded backbone and its bundles."""
