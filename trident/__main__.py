"""python -m trident <command> ... is the command `trident`."""

from engine.command import main

if __name__ == "__main__":
    raise SystemExit(main())
