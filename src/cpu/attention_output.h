// What both kinds of attention end with. Include inside the namespace of a translation unit, after
// its Vec and codecs.

// factor * sums of the queries that begin at (x, y), R rows of one vector, as `task.format` has it.
// sums: [channels][R * lanes].
template <typename Out, int R>
void store_attention_as(const AttentionTask& task, int x, int y, const float* sums,
                        const Vec::F (&factor)[R]) {
  const Quantiser quantiser{Vec::set1(task.format.inverse), -127};
  for (int r = 0; r < R; ++r) {
    const auto value = [&](int c) {
      const int kept = c < task.channels ? c : task.channels - 1;
      return Vec::mul(Vec::load(sums + (kept * R + r) * Vec::kLanes), factor[r]);
    };
    for (int c = 0; c < task.channels; c += Out::kPack) {
      Out::store(task.out + c / Out::kPack * kTilePixels + (y + r) * kTile + x, value(c),
                 value(c + 1), value(c + 2), value(c + 3), quantiser);
    }
  }
}

template <int R>
void store_attention(const AttentionTask& task, int x, int y, const float* sums,
                     const Vec::F (&factor)[R]) {
  switch (task.format.operand) {
    case Operand::fp32:
      return store_attention_as<Fp32>(task, x, y, sums, factor);
    case Operand::int8:
      return store_attention_as<Int8>(task, x, y, sums, factor);
    default:
      return store_attention_as<Half>(task, x, y, sums, factor);
  }
}
