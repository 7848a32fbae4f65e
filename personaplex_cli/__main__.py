"""`python -m personaplex_cli` is `personaplex`."""

from personaplex_cli.cli.app import main

main()
