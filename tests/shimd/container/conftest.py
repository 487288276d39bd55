"""The pair of stages: see tests/shimd/pair.py."""

from tests.shimd.pair import pair as pair
from tests.shimd.pair import pairs as pairs
