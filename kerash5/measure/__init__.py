"""The process that measures one backend: `python -m kerash5.measure`, a job in, its result out."""
