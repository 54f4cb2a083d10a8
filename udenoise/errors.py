"""The one error a user sees: what came, what is needed, what to type."""


class InputError(ValueError):
    """Input that cannot be used; its message is one clear line. The command line prints it and exits with status 2."""
