"""Names of models, teachers and data sets, several of which may be joined by `+`."""

from os.path import exists, expanduser

from xiaonet.errors import ConfigError


def split_names(text: str, what: str = "the name", example: str = "one+other") -> list[str]:
    """Split names at `+`; the path of an existing file or folder stays whole, even with a `+` in it.

    Args:
        text: one name, or several joined by `+`.
        what: what is named, for the error message.
        example: a valid text, for the error message.

    Raises:
        ConfigError: a name is empty.

    Example:
        >>> split_names("stead + original")
        ['stead', 'original']
    """
    if "+" in text and exists(expanduser(text)):
        return [text]
    names = [name.strip() for name in text.split("+")]
    if not all(names):
        raise ConfigError(f"{what} {text!r} names nothing before or after a +; wanted e.g. {example}")
    return names
