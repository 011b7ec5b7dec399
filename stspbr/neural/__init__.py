"""Partitioned scene representations: encoders, partitions with learned widths, and generators of pictures.

Granskog, Rousselle, Papas, Novák: *Compositional Neural Scene Representations for Shading Inference*, SIGGRAPH 2020.
Inside this room pictures are ``[B, C, H, W]``, as the published data are stored, and predictions are log(1 + radiance).
"""
