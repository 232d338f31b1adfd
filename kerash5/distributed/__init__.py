"""Find the group of processes that this one belongs to. Exchanges no data between processes."""

from kerash5.distributed._group import (
    Group,
    check_exchange,
    check_single_writer,
    find_group,
    find_shard,
)

__all__ = ["Group", "check_exchange", "check_single_writer", "find_group", "find_shard"]
