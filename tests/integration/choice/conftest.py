"""Lets tests import what the benchmark of live choices is made of."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "bench"))
