"""The process that measures one backend, `python -m kerash5.measure`: job in, result out."""
