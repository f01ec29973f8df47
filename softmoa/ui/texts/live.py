"""What the Live tab says."""

INTRO = (
    "The microphone's last {seconds:g} seconds go through the model about twice a second. Press "
    "*Record*, make a noise, and watch the labels and the experts. Only those seconds are used; "
    "what the server stores on the way is deleted about {minutes} minutes later."
)
MICROPHONE = "Microphone"
BUNDLE = "Trained adapters (bundle)"
LABELS = "What it is, now"
IDLE = "Not listening."
NO_BUNDLE = "Choose a bundle from the list."
STATUS = "The last {seconds:.1f} s · model {milliseconds:.0f} ms · {rate:.1f} updates per second"
BARS = "Contribution of the experts, now"
