"""From a model and labelled sounds to trained methods, one or several."""
