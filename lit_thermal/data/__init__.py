"""Where thermal data comes from: the simulator, readers, degradations and the DataModules."""
