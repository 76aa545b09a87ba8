"""Files from the Hugging Face hub, through huggingface_hub and its own cache (HF_HOME, HF_TOKEN and mirrors apply)."""

from pathlib import Path

from evlgen.errors import WeightsError
from evlgen.weights.sources import Source


def download_from_hub(source: Source) -> Path:
    """Return the path of a hub file in huggingface_hub's cache, fetching it if needed.

    Raises:
        WeightsError: no such repository, revision or file, no access, or the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = f"{source.path} of {source.owner}@{source.version}"
    try:
        return Path(hf_hub_download(source.owner, source.path, revision=source.version))
    except GatedRepoError as error:
        raise WeightsError(f"{source.owner} is gated", "accept its terms on the hub, then: hf auth login") from error
    except LocalEntryNotFoundError as error:
        raise WeightsError(f"{name} is not cached, and the hub cannot be reached", "check the network") from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        raise WeightsError(f"the hub has no {name}", "check the spelling; private ones need: hf auth login") from error
    except Exception as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise WeightsError(f"{name} could not be fetched: {type(error).__name__}: {first_line}") from error
