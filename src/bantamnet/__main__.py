"""`python -m bantamnet`."""

from bantamnet.cli import main

if __name__ == "__main__":
    main()
