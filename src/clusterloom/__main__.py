"""`python -m clusterloom`, and what `accelerate launch --module clusterloom` runs."""

from clusterloom.cli import main

main()
