"""Training: data modules, the trainer, and the files of a run."""

from kerash5.feeds._module import H5DataModule
from kerash5.train._build import load_model
from kerash5.train._trainer import Trainer
from kerash5.train.monitors._loggers import AbstractLogger

__all__ = ["AbstractLogger", "H5DataModule", "Trainer", "load_model"]
