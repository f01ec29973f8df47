"""What the tab "Your sounds" says."""

INTRO = (
    "Teach the model sounds of your own: name two or more classes, record a few takes of each, "
    "train, and try it at once. Five takes a class are enough to begin with."
)
NAME = "### 1. Name the classes"
LABEL = "Name of a class"
LABEL_HINT = "such as: clap, whistle, nothing"
ADD = "Add the class"
CHOOSE = "Class to record"
RECORD = "### 2. Record a few takes of each"
SECONDS = "Length of a take, seconds"
TAKE = "Or record by hand, or choose a file"
RECORD_ONE = "● Record one take"
RECORD_HELP = (
    "One press records one take and adds it; silence before and after the sound is cut off. "
    "Takes stay on this server until you delete them, or for {limits.upload_minutes} minutes "
    "after the last one. A page that is loaded again begins without them: download them before."
)
UPLOAD = "Or add a zip of sounds"
UPLOAD_HELP = (
    "A zip with a folder for each class, or with a table `path,label[,split][,group]` beside the "
    "sounds: up to {limits.clips} clips, {limits.classes} classes and {limits.upload_mb:g} MB. "
    "Clips of one group, such as a speaker, stay together when the sounds are divided."
)
TAKES = "### Your takes"
PLAYER = "The chosen take"
DELETE = "Delete this take"
AGAIN = "Record it again"
AGAIN_NOTE = "The next take replaces the chosen one."
CHOSEN_NOTE = "Take {number} of '{label}'."
ADDED = "Added take {number} of '{label}', {seconds:.1f} s."
ADDED_ZIP = "Added {clips} clips of {classes} classes."
NO_TAKES = "No takes yet."
MORE = "and {count} more"
SPLIT = (
    "How they are divided: the model learns from **train**, the best moment of training is chosen "
    "on **valid**, and **test** is looked at once, at the end."
)
SAVE = "Download all takes (zip)"
CLEAR = "Delete everything"
CLEAR_SURE = "Yes, delete all classes (takes: {clips})"
REMOVE = "Remove this class"
REMOVE_SURE = "Yes, remove '{label}' (takes: {clips})"
REMOVED = "Removed '{label}'."
CLEARED = (
    "Everything was deleted; what the player fetched of it goes within {limits.upload_minutes} "
    "minutes."
)
EXPIRED = (
    "Your earlier takes were deleted: none was added for {limits.upload_minutes} minutes. The "
    "names of your classes are kept."
)
TRAIN = "### 3. Train"
TRAIN_HELP = (
    "A linear probe and a Soft-MoA are trained on the same clips, for at most {seconds:g} seconds "
    "each."
)
TRAIN_BUTTON = "Train on these sounds"
STOP = "Stop"
RACE = "Race more methods on these, in the tab Compare"
RACE_TITLE = "Your sounds: {classes}"
RESULTS = (
    "method",
    "trained weights, without the head",
    "seconds",
    "right on valid",
    "right on test",
)
SMALL_TEST = "With {clips} test clips this says little: record more takes to know."
TRY = "### 4. Try it"
TRY_HELP = "It always names one of your classes, so a class for silence or for anything else helps."
USE = "Classify with"
TEST = "Record or upload a new sound"
LIVE = "Or listen live"
ANSWER = "What it is"
LIVE_ANSWER = "What it hears now"
TAKE_HOME = "Download the trained adapters"
BUNDLE_HELP = "On the command line: `python -m softmoa classify SOUND --bundle FILE`."
BUNDLE_GONE = "The trained adapters were deleted with the takes; please train again."
NOTHING_TRAINED = "Train first."
