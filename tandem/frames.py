"""pandas frames; pandas is no dependency, and imported when one is asked for."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.errors import BadArgument

if TYPE_CHECKING:
    from pandas import DataFrame


def frame(rows: Sequence[Mapping[str, object]]) -> "DataFrame":
    """Return rows as a frame, a column for each key.

    Raises:
        UserError: pandas is not installed.
    """
    try:
        from pandas import DataFrame
    except ImportError as error:
        hint = "Install it: pip install pandas"
        raise BadArgument("pandas", problem="it is not installed", hint=hint) from error
    return DataFrame(list(rows))
