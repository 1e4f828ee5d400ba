"""`python -m rsseg_cli` is `rsseg`."""

from rsseg_cli.app import main

main()
