#include "cuda/forward.h"

#include <algorithm>
#include <utility>

#include "cuda/body.h"
#include "cuda/device.h"
#include "model/stages.h"

namespace elan::cuda {
namespace {

const float* floats(const ForwardArgs& a, std::size_t offset) {
  return reinterpret_cast<const float*>(a.weights + offset);
}
const char* bytes(const ForwardArgs& a, std::size_t offset) {
  return reinterpret_cast<const char*>(a.weights + offset);
}

HeadArgs head_args(const ForwardArgs& a, const DevicePictures& pictures) {
  HeadArgs h;
  h.input = pictures.input;
  h.sample = static_cast<int>(pictures.input_type);
  h.input_width = pictures.width;
  h.input_height = pictures.height;
  std::copy(a.net.mean.begin(), a.net.mean.end(), h.mean);
  h.weights = floats(a, a.packed.head_weights);
  h.bias = floats(a, a.packed.head_bias);
  h.slabs = bytes(a, a.packed.head_slabs);
  h.column_bias = floats(a, a.packed.head_column_bias);
  h.unscale = a.packed.head_unscale;
  h.grid = a.plan.grid;
  h.channels = a.shape.channels;
  return h;
}

// Where the stream is, and how it is kept: x holds it before and after a pair, y between.
struct Place {
  std::byte *x, *y;
  StreamFormat format;
};

// Before an ELAB of this kind. Where it keeps the stream otherwise, the stream goes over to y; a
// split one has a stream of FP16 in it.
Place next_place(const Place& p, const PairKind& kind) {
  const StreamFormat format = kind.stream;
  const bool there =
      format == p.format || (format == StreamFormat::fp16 && p.format == StreamFormat::split);
  return there ? Place{p.x, p.y, format} : Place{p.y, p.x, format};
}

// Whether the GMSA leaves x where y was, and not where the LFE had it from: memory written again
// is less for the caches to hold than other memory. (In the narrow network that gained nothing.)
// One kernel for both must, and so must gmsa_hopper.cu on a split stream.
bool trades_places(const ForwardArgs& a, const PairKind& kind, bool whole_pairs) {
  return whole_pairs || (a.shape.channels == 180 && kind.hopper &&
                         operand_bytes(kind.operand) == 2 && !keeps_stream_in_place(kind));
}

void convert_stream(const ForwardArgs& a, const Place& from, const Place& to, cudaStream_t stream) {
  StreamArgs s;
  s.from = from.x;
  s.to = to.x;
  s.from_format = from.format;
  s.to_format = to.format;
  s.pixels = a.plan.grid.pixels();
  s.units = layout_of(a.shape.channels).units;
  s.grid = a.plan.grid;
  launch_stream(s, stream);
}

// The LFE after a pair, if it reads integers: they come from the pair's GMSA.
const PackedLfe* next_int8(const ForwardArgs& a, std::size_t elab, std::size_t pair) {
  if (++pair == a.packed.body[elab].size()) {
    ++elab;
    pair = 0;
  }
  if (elab == a.packed.body.size() || !uses_8_bit_kernels(a.shape.body[elab])) return nullptr;
  return &a.packed.body[elab][pair].lfe;
}

void run_head(HeadArgs head, const Place& place, bool accumulate, cudaStream_t stream) {
  head.x = place.x;
  head.format = place.format;
  head.accumulate = accumulate;
  launch_head(head, stream);
}

TailArgs tail_args(const ForwardArgs& a, const StageStream& body) {
  TailArgs t;
  t.x = body.data;
  t.format = body.format;
  t.weights = bytes(a, a.packed.tail.weights);
  t.bias = floats(a, a.packed.tail.bias);
  t.unscale = a.packed.tail.unscale;
  t.scale = a.shape.scale;
  t.not_finite = a.not_finite;
  t.grid = a.plan.grid;
  t.shape = a.plan.tail;
  return t;
}

}  // namespace

void forward(const ForwardArgs& a, const DevicePictures& pictures, cudaStream_t stream,
             const StageHook& hook) {
  const HeadArgs head = head_args(a, pictures);
  Place place{a.arena + a.plan.arena.x, a.arena + a.plan.arena.y, a.shape.body.front().stream};
  const auto show = [&](const std::string& name, const std::byte* data) {
    if (hook) hook(name, {data, place.format});
  };
  run_head(head, place, false, stream);
  show("head", place.x);

  std::byte* const q = a.arena + a.plan.arena.q;
  std::byte* const v = a.arena + a.plan.arena.v;
  std::byte* const integers = a.arena + a.plan.arena.integers;
  const PackedLfe* ready = nullptr;  // whose integers the last GMSA left
  for (std::size_t i = 0; i < a.packed.body.size(); ++i) {
    const PairKind& kind = a.shape.body[i];
    const BodyArgs body{a.shape.channels, a.plan.grid, a.plan.of(kind), a.weights};
    const Place before = std::exchange(place, next_place(place, kind));
    if (place.x != before.x) convert_stream(a, before, place, stream);
    const bool whole_pairs = !a.every_stage && a.plan.has_whole_pairs(kind, a.net.body[i].shifted);
    for (std::size_t j = 0; j < a.packed.body[i].size(); ++j) {
      const PackedPair& pair = a.packed.body[i][j];
      std::byte* const y = keeps_stream_in_place(kind) ? place.x : place.y;
      const LfeTensors lfe{.x = place.x, .y = y, .q = q, .v = v, .integers = integers};
      if (uses_8_bit_kernels(kind) && ready != &pair.lfe) {
        enqueue_integers(body, pair.lfe, lfe, stream);
      }
      if (!whole_pairs) {
        enqueue_lfe(body, pair.lfe, lfe, stream);
        show(lfe_stage(static_cast<int>(i), static_cast<int>(j)), y);
      }
      ready = uses_8_bit_kernels(kind) ? next_int8(a, i, j) : nullptr;
      if (trades_places(a, kind, whole_pairs)) std::swap(place.x, place.y);
      const GmsaTensors gmsa{.y = y,
                             .q = q,
                             .v = v,
                             .x = place.x,
                             .references = a.packed.body[i].size() > 1 ? q : nullptr,
                             .references_found = !pair.lfe.has_q,
                             .integers = integers,
                             .next = ready};
      if (whole_pairs) {
        enqueue_pair(body, pair, lfe, gmsa, stream);
      } else {
        enqueue_gmsa(body, pair.out, a.net.body[i].shifted, gmsa, stream);
      }
      show(gmsa_stage(static_cast<int>(i), static_cast<int>(j)), place.x);
    }
  }

  TailArgs tail = tail_args(a, {place.x, place.format});
  const auto end_body = [&] {
    run_head(head, place, true, stream);
    show("body", place.x);
  };
  if (a.shape.skip_in_tail()) {
    tail.skip = true;
    tail.head = head;
    tail.skip_weights = bytes(a, a.packed.skip.weights);
    tail.skip_scale = a.packed.skip.scale;
  } else {
    end_body();
  }
  std::copy(a.net.mean.begin(), a.net.mean.end(), tail.mean);
  tail.output = pictures.output;
  tail.sample = static_cast<int>(pictures.output_type);
  tail.output_width = pictures.width * a.shape.scale;
  tail.output_height = pictures.height * a.shape.scale;
  launch_tail(a.shape.channels, a.shape.tail, tail, stream);
  if (tail.skip && a.every_stage) end_body();
  ELAN_CUDA(cudaGetLastError());
}

void forward_tail(const ForwardArgs& a, const StageStream& body, float* output,
                  cudaStream_t stream) {
  TailArgs tail = tail_args(a, body);
  tail.output = output;
  tail.sample = static_cast<int>(SampleType::f32);
  tail.output_width = a.plan.grid.width * a.shape.scale;
  tail.output_height = a.plan.grid.height * a.shape.scale;
  launch_tail(a.shape.channels, a.shape.tail, tail, stream);
  ELAN_CUDA(cudaGetLastError());
}

}  // namespace elan::cuda
