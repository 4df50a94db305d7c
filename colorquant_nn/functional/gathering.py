"""Colours that several processes have counted, put together on one of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch.distributed as dist

from colorquant_nn.functional.histogram import WeightedColors, accumulate, merge_colors

__all__ = ["gather_colors"]


def gather_colors(
    parts: Iterable[WeightedColors], group: dist.ProcessGroup | None = None
) -> WeightedColors | None:
    """Merge the colours of all ranks on the first one, as `merge_colors` does those of one process.

    Every rank of the group calls it, with or without parts. A rank sends its colours once; the
    first takes them from one rank after another, so that no memory grows with their number.

    Args:
        parts: of this rank, as `count_each` gives them.
        group: of processes with a backend for the CPU, such as gloo; all of them by default.

    Returns:
        on the first rank the colours that one process would have counted: for images of bytes bit
        for bit, with more than 524288 distinct ones to float64's rounding. The hole is that of the
        first rank that has one. None on the other ranks, and where no rank has any part.

    Raises:
        RuntimeError: a rank is lost, or does not answer in the group's time.

    Examples:
        >>> import tempfile, torch, torch.distributed as dist
        >>> from colorquant_nn.functional.histogram import count_each
        >>> from colorquant_nn.functional.gathering import gather_colors
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     store = dist.FileStore(file.name, 1)
        ...     dist.init_process_group("gloo", store=store, rank=0, world_size=1)
        ...     gather_colors(count_each([torch.zeros(3, 4, 4)])).weights
        ...     dist.destroy_process_group()
        tensor([16.], dtype=torch.float64)
    """
    ranks = dist.get_process_group_ranks(group or dist.group.WORLD)
    own = accumulate(parts)
    if dist.get_rank() != ranks[0]:
        dist.send_object_list([own], ranks[0], group)
        return None

    def of_all_ranks() -> Iterator[WeightedColors]:
        box = [own]
        for rank in ranks:
            if rank != ranks[0]:
                dist.recv_object_list(box, rank, group)
            if box[0] is not None:
                yield box[0]

    merged = accumulate(of_all_ranks())
    return None if merged is None else merge_colors([merged])
