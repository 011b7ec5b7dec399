"""``python -m stspbr``."""

from stspbr.cli import main

main()
