"""The one kind of error that is the user's to mend."""


class InputError(ValueError):
    """Something given to the program is wrong; the message names it and the way out, in one line."""
