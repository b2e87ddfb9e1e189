"""The parts that networks are made of; nothing here knows a family's name, an objective or a file.

Each kind of part is a union of small configs, one file each: `Norm`, `Position`, `Mask`, `Ffn`, `Head`, and the sides
`Stack`, `Recurrent` and `FeedForward`. A config builds the module it describes.
"""
