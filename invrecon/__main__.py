"""`python -m invrecon` is `invrecon`."""

from invrecon.cli.app import main

main()
