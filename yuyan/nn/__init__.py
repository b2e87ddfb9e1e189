"""The parts that networks are made of; nothing here knows a family's name, an objective or a file.

Each kind of part is a union of small configs, one file each: `Norm`, `Position`, `Mask`, `Ffn`, `Head`, and the sides
`Stack` and `Recurrent`. A config builds the module it describes.
"""
