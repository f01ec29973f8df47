"""The Lesson tab: eight steps from one adapter to what the pictures cannot tell."""
