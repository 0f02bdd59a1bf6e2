// Include last in a translation unit's namespace: the table of its kernels.

// As many independent sums as the product kernel keeps, operands in registers.
template <typename Codec>
double peak_of(long rounds) {
  constexpr int kSums = 12;
  alignas(64) Word ones[Vec::kLanes];
  __builtin_memset(ones, 1, sizeof ones);
  const typename Codec::Op a = Codec::load(ones);
  typename Codec::Weight b = Vec::pin(Codec::broadcast(ones));
  typename Codec::Sum sum[kSums];
#pragma GCC unroll 16
  for (int i = 0; i < kSums; ++i) sum[i] = typename Codec::Sum{};
  for (long n = 0; n < rounds; ++n) {
    b = Vec::pin(b);  // nothing may be computed ahead
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) {
      sum[i] = Codec::mac(sum[i], a, b);
      ELANSR_KEEP(sum[i]);
    }
  }
  return static_cast<double>(rounds) * kSums * Vec::kLanes * Codec::kPack;
}

double peak(Operand operand, long rounds) {
  switch (operand) {
    case Operand::fp32:
      return peak_of<Fp32>(rounds);
    case Operand::int8:
      return peak_of<Int8>(rounds);
    default:
      return peak_of<Half>(rounds);
  }
}

constexpr Kernels kTable{Half::kOperand, Vec::kZeroByte, product, attention, pack,
                         halo,           roll,           shuffle, peak};
