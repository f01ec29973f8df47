"""What is said about links to a view."""

COPY, COPIED = "Copy link", "Copied"
NO_NUMBER = "The link's {key} was ignored: it must be a whole number from {low} to {high}."
NO_NAME = "The link's {key} was ignored: it must be one of {names}."
