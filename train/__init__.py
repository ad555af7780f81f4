"""The program: `python -m train --task rte`."""
