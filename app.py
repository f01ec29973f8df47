"""Soft-MoA Lab, the web app: `python app.py [--host ADDRESS] [--port PORT]`."""

from __future__ import annotations

import argparse
import sys

from softmoa.ui.page import ServeError, build, serve


def port(text: str) -> int:
    """What --port names; argparse says what it cannot be."""
    number = int(text)
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is not from 1 to 65535")
    return number


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Soft-MoA Lab")
    parser.add_argument("--host", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=port, help="port (default: the first free one from 7860)")
    arguments = parser.parse_args()
    demo = build()
    try:
        serve(demo, arguments.host, arguments.port)
    except ServeError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
