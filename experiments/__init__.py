"""Lightning experiments that train and judge palettes and palette bottlenecks.

Run ``python -m experiments fit --config configs/base.yaml --config configs/photos.yaml``.
"""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The checkout."""
SHARED_DATA = Path(os.environ.get("COLORQUANT_DATA", ROOT.parent / "shared" / "data"))
"""Kodak's pictures, CIFAR-10 (JPEG) and its classifier, where somebody has put them."""
