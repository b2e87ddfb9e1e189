"""`python -m yuyan`."""

from yuyan.cli import main

if __name__ == "__main__":
    main()
