"""Camera to carriers: everything that knows PyAV or the model. Imports neither `memory` nor `daemon`."""

__version__ = "0.1.0"
