"""Asks the processor to fetch memory that will be needed soon: a hint, without effect on any result.

A pass over a batch reads rows of state in the order of its events, which is not their order in memory: without
prefetching it waits for memory most of the time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_tools: Any = cgutils
_READ, _KEEP, _DATA = 0, 3, 1


@intrinsic
def _prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """`llvm.prefetch` of one element; an index out of bounds does no harm."""
    del typing_context

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, number = signature.args
        struct = context.make_array(kind)(context, builder, arguments[0])
        element = context.cast(builder, arguments[1], number, types.intp)
        pointer = _tools.get_item_pointer(context, builder, kind, struct, [element], wraparound=False)
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind_of_call = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        call = _tools.get_or_insert_function(builder.module, kind_of_call, "llvm.prefetch.p0")
        builder.call(
            call,
            [builder.bitcast(pointer, byte), *(ir.Constant(word, flag) for flag in (_READ, _KEEP, _DATA))],
        )
        return context.get_dummy_value()

    return types.void(array, index), generate


prefetch: Any = _prefetch
"""`prefetch(array, index)`, within compiled code."""
