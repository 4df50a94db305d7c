"""Whom a palette learns with: the ranks of a process group, or nobody.

A group has a name, since operations take strings, and since a layer that holds a name alone can be
copied and stored.
"""

import torch
from torch import Tensor

__all__ = ["ALONE", "WORLD", "all_reduce", "group_of", "name_of", "together"]

ALONE = "alone"
WORLD = "world"  # the default group, once there is one

_groups: dict[str, "torch.distributed.ProcessGroup"] = {}


def name_of(group: "torch.distributed.ProcessGroup | None") -> str:
    """The name by which the other functions know a group.

    Args:
        group: of which this process is a member; None is the default group.

    Raises:
        ValueError: for a group without this process.

    Examples:
        >>> from colorquant_nn.functional.ranks import name_of
        >>> name_of(None)
        'world'
    """
    if group is None:
        return WORLD
    name = getattr(group, "group_name", None)
    if name is None:  # what torch.distributed.new_group gives to those who are not in it
        raise ValueError(
            f"expected a process group of which this rank is a member, got {group!r}; "
            "sync=False makes a layer that learns alone"
        )
    _groups[name] = group
    return name


def group_of(name: str) -> "torch.distributed.ProcessGroup | None":
    """The group of a name, None for the default one.

    Args:
        name: of `name_of`.

    Raises:
        RuntimeError: another process made it.

    Examples:
        >>> from colorquant_nn.functional.ranks import group_of
        >>> group_of("world") is None
        True
    """
    if name == WORLD:
        return None
    if name not in _groups:
        raise RuntimeError(
            "this layer was made with a process group of another process: give it one of this "
            "process, layer.process_group = group, or None for the default group"
        )
    return _groups[name]


def together(name: str) -> bool:
    """Whether there are other ranks to learn with.

    Args:
        name: of `name_of`, or `ALONE`.

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
        name: of `name_of`, or `ALONE`.

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
    try:
        torch.distributed.all_reduce(tensor, group=group_of(name))
    except RuntimeError as error:
        raise RuntimeError(
            "a palette waited for the other ranks, which did not come: each has to make the same "
            "number of training forwards. A forward of one rank alone is for eval(), or a layer "
            "with sync=False; ranks with models of their own need sync=False, or a process_group"
        ) from error
    return tensor
