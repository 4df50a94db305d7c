"""What is measured: a file is a suite, a list of cases that its `cases` makes.

To add one, write the file and give it a title here.
"""

SUITES = {
    "start": "A fresh process",
    "layer": "The layers",
    "assign": "The nearest centroid",
    "kmeans": "Lloyd's algorithm",
    "images": "Palettes of pictures",
    "curves": "Growth with pixels and colours",
    "command": "The command, beyond `import torch`",
    "large": "A picture of 24 megapixels",
    "eye": "What people see",
    "bytes": "The smallest file at a quality",
    "cifar": "A palette for a dataset",
}
