// Include last in a translation unit's namespace: the table of its kernels.

// As many independent sums as the product kernel keeps, operands in registers.
template <typename Codec>
double peak(long rounds) {
  constexpr int kSums = 12;
  alignas(64) Word ones[Vec::kLanes];
  for (Word& w : ones) w = Codec::pack(1.0f, 1.0f);
  const typename Codec::Op a = Codec::load(ones);
  Vec::F sum[kSums];
#pragma GCC unroll 16
  for (int i = 0; i < kSums; ++i) sum[i] = Vec::set1(0.0f);
  for (long n = 0; n < rounds; ++n) {
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) {
      sum[i] = Codec::mac(sum[i], a, a);
      ELANSR_KEEP(sum[i]);
    }
  }
  return static_cast<double>(rounds) * kSums * Vec::kLanes * Codec::kPack;
}

template <typename Codec>
inline const Kernels& table() {
  static constexpr Kernels kTable{Codec::kPack,   Codec::kValuesAreWords,
                                  product<Codec>, attention<Codec>,
                                  halo<Codec>,    roll,
                                  shuffle,        peak<Codec>};
  return kTable;
}
