"""Lightning experiments that train and judge palettes and palette bottlenecks.

Run ``python -m experiments fit --config configs/base.yaml --config configs/photos.yaml``.
"""
