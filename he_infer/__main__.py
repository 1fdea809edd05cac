"""`python -m he_infer` is `he-infer`."""

from he_infer.cli import main

main()
