"""`python -m clearflow` is the command line."""

from clearflow.cli.main import main

if __name__ == "__main__":
    main()
