// Weights as core matrices of 32-bit operands, as layout_wide.h has them.
#pragma once

#include <cstddef>
#include <span>

#include "cuda/pack.h"

namespace elan::cuda {

// The place of k in its unit of 8. In registers, tf32 holds in one place for each half of a unit
// what accumulators leave there: the even k, then the odd ones.
enum class KOrder { memory, registers };

// Writes `units` units of k x columns 8 * [tile, tile + tiles) of the matrix value(k, column). All
// slabs of a matrix, one after the other, are one such piece.
void pack_wide_slab(std::span<std::byte> slab, Operand operand, KOrder order, int units, int tile,
                    int tiles, const MatrixFn& value);

}  // namespace elan::cuda
