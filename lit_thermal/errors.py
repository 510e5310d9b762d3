"""The one exception for what a user can mend; the command line prints it and exits with code 2."""


class InputError(ValueError):
    """Something that the user gave is wrong.

    The message is one sentence: what is wrong, where (file, key, shape), and what to do.
    """
