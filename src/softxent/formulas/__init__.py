"""The mathematics, in the array API standard and nothing else, one file a family.

Each formula receives ``ops`` (an array namespace and a few primitives, see ``softxent.backends``), its arrays, and the
class axis. Arrays beside the logits are row-like (size 1 along the class axis) or logits-like, and broadcast against
them. A formula never looks at a value to decide what to do and never writes to an array it was given.
"""
