"""The rig of `bench/run` and `bench/instructions`: it builds and starts programs, measures and reports."""
