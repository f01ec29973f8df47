"""What the part on long sounds says."""

HEADING = (
    "### Over time\n"
    "The sound is longer than {long:g} seconds, so it is also cut into windows that overlap by "
    "half. Each goes through the model by itself. Play the sound: a line shows where it is."
)
WINDOWS, WINDOW = "Length of a window", "{seconds} s"
SHARES = "Share of each expert over time (combine), layer {layer}, beside {site}"
