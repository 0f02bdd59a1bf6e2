#include "cuda/pack_wide.h"

#include <cstring>

#include "cuda/layout_wide.h"

namespace elan::cuda {

void pack_wide_slab(std::span<std::byte> slab, Operand operand, KOrder order, int units, int tile,
                    int tiles, const MatrixFn& value) {
  const auto put = [&](int unit, int part, int column, int byte, auto bits) {
    const int core = (2 * unit + part) * tiles + column / 8;
    std::memcpy(slab.data() + core * 128 + column % 8 * 16 + byte, &bits, sizeof bits);
  };
  for (int u = 0; u < units; ++u) {
    for (int n = 0; n < 8 * tiles; ++n) {
      for (int k = 0; k < 8; ++k) {
        const float v = value(8 * u + k, 8 * tile + n);
        if (operand == Operand::fp32) {
          const std::uint16_t high = to_half(v);
          put(u, 0, n, 2 * k, high);
          put(u, 1, n, 2 * k, to_half(v - from_half(high)));
        } else if (order == KOrder::registers) {
          put(u, k % 2, n, k / 2 * 4, to_tf32_bits(v));
        } else {
          put(u, k / 4, n, k % 4 * 4, to_tf32_bits(v));
        }
      }
    }
  }
}

}  // namespace elan::cuda
