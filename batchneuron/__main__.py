"""`python -m batchneuron`."""

from batchneuron.cli import main

if __name__ == "__main__":
    main()
