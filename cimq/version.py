"""The version of cimq, for modules that record it: below everything else, so that nobody imports the face for it."""

__version__ = "0.1.0"
