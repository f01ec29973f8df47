"""Arrays to figures: pure functions; no model, no user interface. Arguments may be tensors or
arrays. One module per topic; `report` draws a figure for a file, the others for the page."""
