"""Errors of the hub's client as one line that says what to do."""

import contextlib
from collections.abc import Iterator

NOT_CACHED = "not in the cache, and the hub cannot be reached"
FILL_THE_CACHE = "fill the cache on a machine with access and copy HF_HOME"
NO_ACCESS = "on the hub, or no access to it, which HF_TOKEN gives"


@contextlib.contextmanager
def complaints(
    where: str, kind: str = "repository", accepted: str = "OWNER/NAME", advice: str = FILL_THE_CACHE
) -> Iterator[None]:
    """Turns errors of the hub's client into a ValueError.

    Args:
      where: the beginning of the line.
      kind: what was requested.
      accepted: which names are valid, if there is none of this name.
      advice: what to do if it is not in the cache and the hub cannot be reached.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except RevisionNotFoundError:
        raise ValueError(f"{where}: no such revision; accepted: a branch, a tag or a commit") from None
    except (RepositoryNotFoundError, GatedRepoError, HFValidationError):
        raise ValueError(f"{where}: no such {kind} {NO_ACCESS}; accepted: {accepted}") from None
    except LocalEntryNotFoundError:
        raise ValueError(f"{where}: {NOT_CACHED}; {advice}") from None
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            raise ValueError(f"{where}: the hub gives no access; accepted: a token in HF_TOKEN that has it") from None
        cause = error.__cause__ or error
        first_line = (str(cause).splitlines() or [""])[0]
        raise ValueError(f"{where}: {type(cause).__name__}: {first_line}") from None
