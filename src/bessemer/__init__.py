"""Bessemer, the open AI factory: raw data in at one end, served and billed intelligence out at the other.

The package itself stays light: it imports no room. Import the room you need, for example `bessemer.flow`
or `bessemer.lake`; each is worth using alone.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
