"""What the choice of a backbone says."""

BACKBONE = "Backbone"
BACKBONE_INFO = (
    "The frozen transformer underneath: {about}. Any AST of the Hugging Face Hub can be named too, "
    "as user/name or user/name@revision."
)
EMBEDDED_INSTEAD = "{problem} The embedded backbone is used instead."
FETCHING = "Fetching {name} from the Hub: {done:.0f} of {total:.0f} MB."
ASKING = "Asking the Hub for {name}."
FROM_HUB = "{blocks} blocks, {classes} labels of its own, from the Hub"
TOO_MANY = "This server has fetched its {models} models from the Hub; choose one of {names}."
NOT_FETCHED = "Choose the backbone from the list, or name it there, so that it is fetched first."
UNTRAINED = "its own labels, with an untrained Soft-MoA"
