"""Where thermal data comes from: the simulator, readers, degradations and the DataModules."""

from lit_thermal.lazy import lazy

__getattr__, __dir__ = lazy(__name__)
