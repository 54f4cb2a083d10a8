"""The null control: what appears in a movie of a run's anatomy and noise in which nothing happens."""

from udenoise.null.control import null

__all__ = ["null"]
