"""What loading and publishing bundles says."""

TITLE = "Bundles of the Hugging Face Hub"
NAME = "Bundle on the Hub"
NAME_INFO = "user/name, or user/name@revision to pin one. Public ones only."
LOAD = "Load"
EMPTY = "Write the name of a repository, such as user/name."
FETCHING = "Fetching {name}: {done:.1f} of {total:.1f} MB."
LOADED = "{name} is loaded: {method}, {labels} labels, on {base}."
TITLE_OF = "{name}: {method}, {labels} labels"
TOO_MANY = "This server has fetched its {bundles} bundles from the Hub."
NO_BASE = "It was trained on the backbone '{base}', which cannot be had here: {problem}"

PUBLISH = (
    "**Publish your bundle.** Sign in, choose a bundle of your own above (train one in the Compare "
    "tab and send it here), and name the repository. It is written with your sign-in, with a card "
    "that says what it is."
)
REPOSITORY = "Repository"
REPOSITORY_INFO = "user/name; it is made if there is none."
PRIVATE = "For my eyes only"
LICENCE = "Licence of the weights"
LICENCES = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0", "other")
PUSH = "Publish"
SIGN_IN = "Sign in to the Hub first."
NOT_YOURS = "Choose a bundle of your own from the list of bundles: one that you trained here."
PUSHED = "Published: {address}"
NO_LICENCE = "Choose a licence from the list."
