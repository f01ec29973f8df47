import sys

from softmoa.cli import main

if __name__ == "__main__":
    sys.exit(main())
