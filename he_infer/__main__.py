"""`python -m he_infer` is `he-infer`."""

from he_infer.entry import main

main()
