"""python -m udenoise"""

from udenoise.cli import main

main()
