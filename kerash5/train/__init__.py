"""Room 6, the training: data modules, the trainer, and what a run writes."""

from kerash5.feeds._module import H5DataModule
from kerash5.train._loggers import AbstractLogger
from kerash5.train._trainer import Trainer

__all__ = ["AbstractLogger", "H5DataModule", "Trainer"]
