"""Soft-MoA Lab, the web app: `python app.py [--host ADDRESS] [--port PORT]`."""

import sys

from softmoa.cli import main

if __name__ == "__main__":
    sys.exit(main(["app", *sys.argv[1:]], "python app.py"))
