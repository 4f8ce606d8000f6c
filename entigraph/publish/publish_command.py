"""`entigraph publish`: lists what would leave the machine, and uploads it with --upload."""

import re
from argparse import ArgumentParser
from collections.abc import Sequence

from entigraph.config.arguments import add_root, parse_arguments
from entigraph.errors import ConfigError
from entigraph.publish.published_files import Publication, PublicationKind, collect_files
from entigraph.storage.disk import format_bytes

REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def publish_main(arguments: Sequence[str]) -> None:
    """Executes `entigraph publish`."""
    options = parse_arguments(publish_parser(), arguments)
    if not REPOSITORY.fullmatch(options.to):
        raise ConfigError(f"--to must be OWNER/NAME, got {options.to!r}")
    publication = collect_files(PublicationKind(options.kind), options.name, options.root.resolve(), options.with_texts)
    for line in describe(publication, options.to, options.public):
        print(line)
    if not options.upload:
        print("nothing was uploaded; add --upload to do it")
        return
    from entigraph.publish.hub_upload import upload

    print(f"published: {upload(publication, options.to, options.public)}")


def publish_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="entigraph publish",
        description="Publishes synthetic texts, a trained model, its adapter or the results of a study on the Hugging "
        "Face Hub. Without --upload it only lists what would leave this machine.",
    )
    parser.add_argument("kind", choices=[kind.value for kind in PublicationKind], help="what is published")
    parser.add_argument("name", help="a synthesis, a run (or model folder), or a study, with or without its digest")
    parser.add_argument(
        "--to", required=True, metavar="OWNER/NAME", help="the repository; created if it does not exist"
    )
    parser.add_argument("--with-texts", action="store_true", help="also publish source documents and what quotes them")
    parser.add_argument("--public", action="store_true", help="make a new repository public (default: private)")
    parser.add_argument("--upload", action="store_true", help="upload the listed files")
    add_root(parser)
    return parser


def describe(publication: Publication, repository: str, public: bool) -> list[str]:
    """Returns the files with their total size, and the excluded files."""
    visibility = "public" if public else "private"
    total = format_bytes(sum(file.bytes for file in publication.files))
    width = max((len(file.name) for file in publication.files), default=0)
    return [
        f"{publication.kind} {publication.name} to {repository}, a {publication.repo_type} repository, "
        f"{visibility} if it is new: {len(publication.files)} files, {total}",
        *(f"  {file.name:<{width}}  {format_bytes(file.bytes)}" for file in publication.files),
        *(f"excluded: {name}" for name in publication.excluded),
        *(f"warning: {warning}" for warning in publication.warnings),
    ]
