"""Uploads a publication to the Hugging Face Hub as one commit."""

from entigraph.errors import ConfigError, EntigraphError
from entigraph.publish.published_files import Publication

TOKEN_PAGE = "https://huggingface.co/settings/tokens"


def check_token() -> None:
    """Raises ConfigError if there is no token for the Hub."""
    from huggingface_hub import get_token

    if not get_token():
        raise ConfigError(f"no token for the Hub; create one with write access ({TOKEN_PAGE}) and export HF_TOKEN=...")


def upload(publication: Publication, repository: str, public: bool) -> str:
    """Creates the repository if it does not exist, adds the files and returns the URL of the commit."""
    from huggingface_hub import CommitOperationAdd, HfApi

    check_token()
    operations = [CommitOperationAdd(file.name, file.source or file.content) for file in publication.files]
    api = HfApi()
    try:
        api.create_repo(repository, repo_type=publication.repo_type, private=not public, exist_ok=True)
        commit = api.create_commit(
            repository, operations, commit_message=f"Add {publication.name}", repo_type=publication.repo_type
        )
    except Exception as error:  # huggingface_hub raises many exception types; the fix is the same for all
        message = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EntigraphError(
            f"the Hub rejected {repository}: {message.rstrip('.')}. Check the name, the token's write access and the "
            "network, then run the same command again"
        ) from None
    return str(commit.commit_url)
