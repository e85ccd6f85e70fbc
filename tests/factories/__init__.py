"""What the tests are made of: packs, clips, faces, streams, judges and checkpoints, all made on the spot."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
GOLDEN = TESTS / "golden"
EXAMPLES = ROOT / "examples"
