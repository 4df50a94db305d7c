"""Four candidates at once: what numba's own loops do not turn into SIMD.

A group of four candidates is 16 neighbouring floats of an array: four x, four y, four z, and the
four numbers of the centroids. The functions below are made of LLVM's vector operations, which
every processor has, as SIMD instructions where there are any.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["GROUP", "GROUP_FLOATS", "kept_of_group", "nearest_of_group"]

GROUP = 4
GROUP_FLOATS = 4 * GROUP

_VECTOR = ir.VectorType(ir.FloatType(), GROUP)
_LANES = ir.VectorType(ir.IntType(32), GROUP)
_FUSED = ("contract",)


def _splat(builder: Any, scalar: Any) -> Any:
    zero = ir.Constant(ir.IntType(32), 0)
    vector = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, zero)
    return builder.shuffle_vector(vector, vector, ir.Constant(_LANES, [0] * GROUP))


def _axes(context: Any, builder: Any, kind: Any, groups: Any, first: Any) -> list[Any]:
    """The vectors of x, y and z of the group that begins at ``groups[first]``."""
    start = builder.gep(context.make_array(kind)(context, builder, groups).data, [first])
    places = [builder.gep(start, [ir.Constant(ir.IntType(64), axis * GROUP)]) for axis in range(3)]
    vectors = [builder.bitcast(place, _VECTOR.as_pointer()) for place in places]
    return [builder.load(vector, align=4) for vector in vectors]


def _bits(builder: Any, mask: Any) -> Any:
    return builder.zext(builder.bitcast(mask, ir.IntType(GROUP)), ir.IntType(64))


def _nearest_of_group(typing_context: Any, groups: Any, first: Any, x: Any, y: Any, z: Any) -> Any:
    """``(groups, first, x, y, z) -> (least squared distance, its lane)``; nothing may be NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vectors = _axes(context, builder, signature.args[0], *arguments[:2])
        total = None
        for vector, coordinate in zip(vectors, arguments[2:], strict=True):
            step = builder.fsub(_splat(builder, coordinate), vector)
            square = builder.fmul(step, step, flags=_FUSED)
            total = square if total is None else builder.fadd(total, square, flags=_FUSED)
        minimum = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.FloatType(), (_VECTOR,)),
            f"llvm.vector.reduce.fmin.v{GROUP}f32",
        )
        least = builder.call(minimum, [total], fastmath=("nnan",))
        bits = _bits(builder, builder.fcmp_ordered("==", total, _splat(builder, least)))
        lane = builder.cttz(bits, ir.Constant(ir.IntType(1), 1))
        return context.make_tuple(builder, signature.return_type, (least, lane))

    result = types.Tuple((types.float32, types.int64))
    return result(groups, types.uint64, *[types.float32] * 3), generate


def _kept_of_group(
    typing_context: Any, groups: Any, first: Any, rival: Any, low: Any, high: Any, allowance: Any
) -> Any:
    """``(groups, first, rival, low, high, allowance) -> bits`` of the candidates to keep.

    The rival and the corners of the box are tuples. A candidate goes if, at the corner of the box
    that lies farthest in its direction from the rival, the rival is nearer by the allowance.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vectors = _axes(context, builder, signature.args[0], *arguments[:2])
        farther = None
        for axis, vector in enumerate(vectors):
            at, below, above = (
                _splat(builder, builder.extract_value(point, axis)) for point in arguments[2:5]
            )
            corner = builder.select(builder.fcmp_ordered(">", vector, at), above, below)
            # Squared distance of the corner to the candidate, less that to the rival.
            apart = builder.fsub(vector, at)
            both = builder.fadd(builder.fsub(vector, corner), builder.fsub(at, corner))
            term = builder.fmul(apart, both, flags=_FUSED)
            farther = term if farther is None else builder.fadd(farther, term, flags=_FUSED)
        return _bits(builder, builder.fcmp_ordered("<=", farther, _splat(builder, arguments[5])))

    point = types.UniTuple(types.float32, 3)
    return types.int64(groups, types.uint64, point, point, point, types.float32), generate


nearest_of_group: Any = intrinsic(_nearest_of_group)
kept_of_group: Any = intrinsic(_kept_of_group)
