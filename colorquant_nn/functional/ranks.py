"""Whom a palette learns with: the ranks of a process group, or nobody.

A group has a name, since operations take strings, and since a layer that holds a name alone can be
copied and stored.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["ALONE", "WORLD", "Ranks", "all_reduce", "group_of", "together"]

ALONE = "alone"
WORLD = "world"  # the default group, once there is one
LOST = "lost"

_groups: dict[str, "torch.distributed.ProcessGroup"] = {}


class Ranks:
    """A process group by name; a copy is of the same group, one that was stored has lost it.

    Args:
        group: of which this process is a member; None is the default group.

    Raises:
        ValueError: for a group without this process.

    Examples:
        >>> from colorquant_nn.functional.ranks import Ranks
        >>> Ranks(None).name
        'world'
    """

    def __init__(self, group: "torch.distributed.ProcessGroup | None") -> None:
        self.name = WORLD
        if group is None:
            return
        if not hasattr(group, "group_name"):  # what new_group gives to those who are not in it
            raise ValueError(
                f"expected a process group of which this rank is a member, got {group!r}; "
                "sync=False makes a layer that learns alone"
            )
        # Not by torch's own names, which come again after a new start.
        known = (name for name, other in _groups.items() if other is group)
        self.name = next(known, f"group {len(_groups)}")
        _groups[self.name] = group

    @property
    def group(self) -> "torch.distributed.ProcessGroup | None":
        """The group, None for the default one."""
        return group_of(self.name)

    def __deepcopy__(self, memo: object) -> "Ranks":
        return self

    def __reduce__(self) -> tuple[Callable[[str], "Ranks"], tuple[str]]:
        return _stored, (WORLD if self.name == WORLD else LOST,)


def _stored(name: str) -> Ranks:
    ranks = Ranks(None)
    ranks.name = name
    return ranks


def group_of(name: str) -> "torch.distributed.ProcessGroup | None":
    """The group of a name, None for the default one.

    Args:
        name: of `Ranks`.

    Raises:
        RuntimeError: the layer was stored and loaded since.

    Examples:
        >>> from colorquant_nn.functional.ranks import group_of
        >>> group_of("world") is None
        True
    """
    if name == LOST:
        raise RuntimeError(
            "this layer was stored, and its process group is not: give it one of this process, "
            "layer.process_group = group, or None for the default group"
        )
    return _groups.get(name)


def together(name: str) -> bool:
    """Whether there are other ranks to learn with.

    Args:
        name: of `Ranks`, or `ALONE`.

    Examples:
        >>> from colorquant_nn.functional.ranks import together
        >>> together("world")
        False
    """
    distributed = torch.distributed
    return name != ALONE and distributed.is_available() and distributed.is_initialized()


def all_reduce(tensor: Tensor, name: str) -> Tensor:
    """The sum over all ranks, in place; alone, nothing happens.

    Args:
        tensor: of the same shape on every rank.
        name: of `Ranks`, or `ALONE`.

    Returns:
        The tensor.

    Raises:
        RuntimeError: a rank did not come in time.

    Examples:
        >>> import torch
        >>> from colorquant_nn.functional.ranks import all_reduce
        >>> all_reduce(torch.ones(1), "world")
        tensor([1.])
    """
    if not together(name):
        return tensor
    group = group_of(name)
    try:
        torch.distributed.all_reduce(tensor, group=group)
    except RuntimeError as error:
        raise RuntimeError(
            "a palette waited for the other ranks, which did not come: each has to make the same "
            "number of training forwards. A forward of one rank alone is for eval(), or a layer "
            "with sync=False; ranks with models of their own need sync=False, or a process_group"
        ) from error
    return tensor
