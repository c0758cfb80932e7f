"""`python -m nasbench` is the `nasbench` command."""

import sys

from nasbench.cli import main

sys.exit(main())
