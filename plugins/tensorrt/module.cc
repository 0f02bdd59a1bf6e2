#include "module.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>

#include "cuda/layout.h"
#include "cuda/pack.h"
#include "elan/error.h"

namespace elan::plugins {
namespace {

constexpr std::array kLfeFields{FieldName{"stage", FieldType::text},
                                FieldName{"fingerprint", FieldType::text},
                                FieldName{"precision", FieldType::text},
                                FieldName{"half_stream", FieldType::i32},
                                FieldName{"int8_block", FieldType::i32},
                                FieldName{"channels", FieldType::i32},
                                FieldName{"stream", FieldType::i32},
                                FieldName{"hidden", FieldType::i32},
                                FieldName{"gives_q", FieldType::i32},
                                FieldName{"conv0_mask", FieldType::f32},
                                FieldName{"conv0_weight", FieldType::f32},
                                FieldName{"conv0_bias", FieldType::f32},
                                FieldName{"conv1_mask", FieldType::f32},
                                FieldName{"conv1_weight", FieldType::f32},
                                FieldName{"conv1_bias", FieldType::f32},
                                FieldName{"project_inp_weight", FieldType::f32},
                                FieldName{"project_inp_bias", FieldType::f32},
                                FieldName{"conv0_weight_scale", FieldType::f32, true},
                                FieldName{"conv0_input_scale", FieldType::f32, true},
                                FieldName{"conv1_weight_scale", FieldType::f32, true},
                                FieldName{"conv1_input_scale", FieldType::f32, true},
                                FieldName{"project_inp_weight_scale", FieldType::f32, true},
                                FieldName{"project_inp_input_scale", FieldType::f32, true},
                                FieldName{"q_scale", FieldType::f32, true},
                                FieldName{"v_scale", FieldType::f32, true}};
constexpr std::array kGmsaFields{FieldName{"stage", FieldType::text},
                                 FieldName{"fingerprint", FieldType::text},
                                 FieldName{"precision", FieldType::text},
                                 FieldName{"half_stream", FieldType::i32},
                                 FieldName{"int8_block", FieldType::i32},
                                 FieldName{"channels", FieldType::i32},
                                 FieldName{"stream", FieldType::i32},
                                 FieldName{"windows", FieldType::i32},
                                 FieldName{"shifted", FieldType::i32},
                                 FieldName{"project_out_weight", FieldType::f32},
                                 FieldName{"project_out_bias", FieldType::f32},
                                 FieldName{"project_out_weight_scale", FieldType::f32, true},
                                 FieldName{"project_out_input_scale", FieldType::f32, true},
                                 FieldName{"q_scale", FieldType::f32, true},
                                 FieldName{"v_scale", FieldType::f32, true}};

constexpr std::array kStreamAndPacked{TensorKind::stream, TensorKind::packed, TensorKind::packed};
constexpr int kMostHidden = 8 * 1024;

const char* name_of(FieldType type) {
  switch (type) {
    case FieldType::f32:
      return "32-bit floats";
    case FieldType::i32:
    case FieldType::i64:
      return "integers";
    case FieldType::text:
      return "text";
    case FieldType::i8:
      return "8-bit integers";
    case FieldType::other:
      break;
  }
  return "another type";
}

// Finds fields by name and says what is wrong with them.
struct Matrix {
  std::vector<float> weight;  // what the integers stand for, if it has those
  std::optional<QuantizedMatrix> int8;
};

class Fields {
 public:
  Fields(Kind kind, std::span<const Field> fields) : kind_(kind), fields_(fields) {}

  void name_stage(const std::string& stage) { stage_ = stage; }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorKind::model, std::string(plugins::name_of(kind_)) +
                                      (stage_.empty() ? "" : " " + stage_) + ": " + what);
  }
  [[noreturn]] void fail(const std::string& field, const std::string& expected,
                         const std::string& found) const {
    fail("field " + field + ": expected " + expected + ", found " + found);
  }

  [[nodiscard]] std::string text(const char* name) const {
    const Field& field = get(name, FieldType::text);
    std::string value(static_cast<const char*>(field.data), static_cast<std::size_t>(field.length));
    while (!value.empty() && value.back() == '\0') value.pop_back();
    return value;
  }

  [[nodiscard]] std::vector<int> ints(const char* name) const {
    const Field& field = get(name, FieldType::i32);
    std::vector<int> values;
    for (std::int64_t i = 0; i < field.length; ++i) {
      std::int64_t value = 0;
      if (field.type == FieldType::i64) {
        std::memcpy(&value, static_cast<const std::byte*>(field.data) + i * 8, 8);
      } else {
        std::int32_t narrow = 0;
        std::memcpy(&narrow, static_cast<const std::byte*>(field.data) + i * 4, 4);
        value = narrow;
      }
      if (value < INT32_MIN || value > INT32_MAX) {
        fail(name, "32-bit integers", std::to_string(value));
      }
      values.push_back(static_cast<int>(value));
    }
    return values;
  }

  [[nodiscard]] int number(const char* name, int least, int most) const {
    const std::vector<int> values = ints(name);
    if (values.size() != 1) fail(name, "one integer", std::to_string(values.size()));
    if (values[0] < least || values[0] > most) {
      fail(name, std::to_string(least) + ".." + std::to_string(most), std::to_string(values[0]));
    }
    return values[0];
  }

  [[nodiscard]] std::vector<float> floats(const std::string& name, std::int64_t length) const {
    const Field& field = get(name, FieldType::f32);
    if (field.length != length) {
      fail(name, std::to_string(length) + " numbers", std::to_string(field.length));
    }
    std::vector<float> values(static_cast<std::size_t>(length));
    std::memcpy(values.data(), field.data, values.size() * sizeof(float));
    for (const float v : values) {
      if (!std::isfinite(v)) fail(name, "finite numbers", std::to_string(v));
    }
    return values;
  }

  // `name`_weight [out][in], in 8 bits with scales if it may be and is.
  [[nodiscard]] Matrix matrix(const std::string& name, int in, int out, bool may_be_int8) const {
    const std::string weight = name + "_weight", scale = weight + "_scale",
                      input_scale = name + "_input_scale";
    const std::int64_t length = std::int64_t{out} * in;
    const Field* given = find(weight);
    if (!may_be_int8 || given == nullptr || given->type != FieldType::i8) {
      std::vector<float> values = floats(weight, length);
      for (const std::string& one : {scale, input_scale}) {
        if (find(one) != nullptr) fail(one, "none without 8-bit integers", "one");
      }
      return {std::move(values), {}};
    }
    QuantizedMatrix int8{steps(input_scale, 1).front(), steps(scale, out), {}};
    const Field& field = get(weight, FieldType::i8);
    if (field.length != length) {
      fail(weight, std::to_string(length) + " numbers", std::to_string(field.length));
    }
    int8.weight.resize(static_cast<std::size_t>(length));
    std::memcpy(int8.weight.data(), field.data, int8.weight.size());
    if (std::count(int8.weight.begin(), int8.weight.end(), INT8_MIN) != 0) {
      fail(weight, "-127..127", "-128");
    }
    return {int8.values(), int8};
  }

  // Of an attention in 8 bits, if it is.
  [[nodiscard]] std::optional<QuantizedAttention> attention() const {
    if (find("q_scale") == nullptr && find("v_scale") == nullptr) return std::nullopt;
    QuantizedAttention scales;
    std::ranges::copy(steps("q_scale", 3), scales.q_scale.begin());
    std::ranges::copy(steps("v_scale", 3), scales.v_scale.begin());
    return scales;
  }

 private:
  [[nodiscard]] std::vector<float> steps(const std::string& name, std::int64_t length) const {
    std::vector<float> values = floats(name, length);
    for (const float v : values) {
      if (!(v > 0)) fail(name, "positive numbers", std::to_string(v));
    }
    return values;
  }
  [[nodiscard]] const Field* find(const std::string& name) const {
    const auto found = std::find_if(fields_.begin(), fields_.end(),
                                    [&](const Field& f) { return f.name == name; });
    return found == fields_.end() ? nullptr : &*found;
  }
  [[nodiscard]] const Field& get(const std::string& name, FieldType type) const {
    const Field* found = find(name);
    if (found == nullptr) fail("field " + name + ": expected " + name_of(type) + ", found none");
    const bool fits =
        found->type == type || (type == FieldType::i32 && found->type == FieldType::i64);
    if (!fits) fail(name, name_of(type), name_of(found->type));
    if (found->length < 0 || (found->data == nullptr && found->length > 0)) {
      fail(name, name_of(type), "no data");
    }
    return *found;
  }

  Kind kind_;
  std::span<const Field> fields_;
  std::string stage_;
};

ShiftConv read_shift_conv(const Fields& fields, const std::string& name, int in, int out,
                          bool may_be_int8) {
  ShiftConv conv;
  conv.in = in;
  conv.out = out;
  conv.mask = fields.floats(name + "_mask", std::int64_t{in} * 9);
  Matrix matrix = fields.matrix(name, in, out, may_be_int8);
  conv.weight = std::move(matrix.weight);
  conv.int8 = std::move(matrix.int8);
  conv.bias = fields.floats(name + "_bias", out);
  for (int c = 0; c < in; ++c) {
    const float* mask = conv.mask.data() + std::ptrdiff_t{c} * 9;
    const float* one = std::find(mask, mask + 9, 1.F);
    if (one == mask + 9 || std::count(mask, mask + 9, 0.F) != 8) {
      fields.fail(name + "_mask", "one 1 and eight 0 for every channel",
                  "something else for channel " + std::to_string(c));
    }
    conv.taps.push_back(static_cast<std::uint8_t>(one - mask));
  }
  return conv;
}

// The kernels move four neighbouring places of a pixel together, and every channel exactly once.
void check_order(const Fields& fields, const Module& m) {
  const int wanted = places(m);
  if (static_cast<int>(m.stream.size()) != wanted) {
    fields.fail("stream", std::to_string(wanted) + " places", std::to_string(m.stream.size()));
  }
  std::vector<int> seen(static_cast<std::size_t>(m.channels), 0);
  for (const int channel : m.stream) {
    if (channel < -1 || channel >= m.channels) {
      fields.fail("stream", "channels below " + std::to_string(m.channels) + " or -1",
                  std::to_string(channel));
    }
    if (channel >= 0) ++seen[static_cast<std::size_t>(channel)];
  }
  for (std::size_t c = 0; c < seen.size(); ++c) {
    if (seen[c] != 1) {
      fields.fail("stream", "every channel once",
                  "channel " + std::to_string(c) + " " + std::to_string(seen[c]) + " times");
    }
  }
  if (m.kind != Kind::lfe) return;
  for (std::size_t i = 0; i < m.stream.size(); ++i) {
    const int first = m.stream[i / 4 * 4], here = m.stream[i];
    if (here < 0) continue;
    if (first < 0 || m.lfe.conv0.taps[here] != m.lfe.conv0.taps[first]) {
      fields.fail("stream", "one shift for every four places",
                  "another one at place " + std::to_string(i));
    }
  }
  if (m.int8_block && !cuda::int8_planes_fit(m.lfe.conv0, m.stream)) {
    fields.fail("stream", "one shift for every 36 places in a block in 8 bits", "others");
  }
}

// Every other part of the rows of project_inp's groups.
QuantizedMatrix part_of(const QuantizedMatrix& joined, int in, int parts, int part) {
  QuantizedMatrix result{joined.input_scale, {}, {}};
  const auto rows = static_cast<std::ptrdiff_t>(joined.weight_scale.size()) / (3 * parts);
  for (std::ptrdiff_t group = 0; group < 3; ++group) {
    const std::ptrdiff_t first = (group * parts + part) * rows;
    const auto scale = joined.weight_scale.begin() + first;
    const auto weight = joined.weight.begin() + first * in;
    result.weight_scale.insert(result.weight_scale.end(), scale, scale + rows);
    result.weight.insert(result.weight.end(), weight, weight + rows * in);
  }
  return result;
}

void read_project_inp(const Fields& fields, Module& m) {
  const int rows = m.gives_q ? 2 * m.channels : m.channels;
  m.gmsa.computes_attention = m.gives_q;
  Matrix matrix = fields.matrix("project_inp", m.channels, rows, m.precision == Precision::int8);
  m.gmsa.project_inp = {m.channels, rows, std::move(matrix.weight),
                        fields.floats("project_inp_bias", rows)};
  if (!matrix.int8) return;
  const int parts = m.gives_q ? 2 : 1;
  m.gmsa.int8_v = part_of(*matrix.int8, m.channels, parts, parts - 1);
  if (m.gives_q) m.gmsa.int8_q = part_of(*matrix.int8, m.channels, parts, 0);
}

void read_lfe(const Fields& fields, Module& m) {
  const int hidden = fields.number("hidden", 1, kMostHidden);
  m.gives_q = fields.number("gives_q", 0, 1) != 0;
  const bool int8 = m.precision == Precision::int8;
  m.lfe.conv0 = read_shift_conv(fields, "conv0", m.channels, hidden, int8);
  m.lfe.conv1 = read_shift_conv(fields, "conv1", hidden, m.channels, int8);
  const int width = 8 * cuda::layout_of(m.channels).hidden_tiles;
  const auto groups = cuda::hidden_order(m.lfe.conv1.taps, width).taps.size();
  const int most = m.int8_block ? cuda::kInt8HiddenGroups : cuda::kMaxHiddenGroups;
  if (static_cast<int>(groups) > most) {
    fields.fail("conv1_mask", "at most " + std::to_string(most) + " groups",
                std::to_string(groups));
  }
  read_project_inp(fields, m);
}

void read_gmsa(const Fields& fields, Module& m) {
  const std::vector<int> windows = fields.ints("windows");
  if (windows != std::vector<int>{4, 8, 16}) fields.fail("windows", "4, 8, 16", "others");
  m.shifted = fields.number("shifted", 0, 1) != 0;
  Matrix matrix =
      fields.matrix("project_out", m.channels, m.channels, m.precision == Precision::int8);
  m.gmsa.project_out = {m.channels, m.channels, std::move(matrix.weight),
                        fields.floats("project_out_bias", m.channels)};
  m.gmsa.int8_out = std::move(matrix.int8);
}

Precision read_precision(const Fields& fields) {
  const std::string name = fields.text("precision");
  for (const Precision p :
       {Precision::fp32, Precision::tf32, Precision::bf16, Precision::fp16, Precision::int8}) {
    if (name == to_string(p)) return p;
  }
  fields.fail("precision", "fp32, tf32, bf16, fp16 or int8", name);
}

// What the kernels of whole blocks in 8 bits rely on; no others have an attention in 8 bits.
void check_int8_block(const Fields& fields, const Module& m) {
  if (!m.int8_block) {
    if (m.gmsa.int8_attention) fields.fail("q_scale", "none without int8_block", "one");
    return;
  }
  const bool all = m.kind == Kind::gmsa ? m.gmsa.int8_out.has_value()
                                        : m.lfe.conv0.int8 && m.lfe.conv1.int8 && m.gmsa.int8_v;
  if (!all || !m.half_stream || m.channels != cuda::kHopperLayout.channels) {
    fields.fail("int8_block", "0 but for 180 channels, a stream in FP16 and matrices in 8 bits",
                "1");
  }
}

}  // namespace

const char* name_of(Kind kind) {
  return kind == Kind::lfe ? "ElanLFE" : "ElanGMSA";
}

std::span<const FieldName> field_names(Kind kind) {
  if (kind == Kind::lfe) return kLfeFields;
  return kGmsaFields;
}

Module module_from_fields(Kind kind, std::span<const Field> given) {
  Fields fields(kind, given);
  Module m;
  m.kind = kind;
  m.stage = fields.text("stage");
  fields.name_stage(m.stage);
  m.fingerprint = fields.text("fingerprint");
  m.precision = read_precision(fields);
  m.half_stream = fields.number("half_stream", 0, 1) != 0;
  const bool may_be_half = m.precision == Precision::fp16 || m.precision == Precision::int8;
  if (m.half_stream && !may_be_half) {
    fields.fail("half_stream", "0 but for fp16 and int8", "1");
  }
  m.int8_block = fields.number("int8_block", 0, 1) != 0;
  m.channels = fields.number("channels", 1, INT32_MAX);
  if (!cuda::has_layout(m.channels))
    fields.fail("channels", "60 or 180", std::to_string(m.channels));
  m.stream = fields.ints("stream");
  if (kind == Kind::lfe) {
    read_lfe(fields, m);
  } else {
    read_gmsa(fields, m);
  }
  m.gmsa.int8_attention = fields.attention();
  check_int8_block(fields, m);
  check_order(fields, m);
  return m;
}

std::span<const TensorKind> inputs_of(const Module& m) {
  return std::span(kStreamAndPacked).first(m.kind == Kind::lfe ? 1 : 3);
}

std::span<const TensorKind> outputs_of(const Module& m) {
  if (m.kind == Kind::gmsa) return std::span(kStreamAndPacked).first(1);
  return std::span(kStreamAndPacked).first(m.gives_q ? 3 : 2);
}

int places(const Module& m) {
  return 8 * cuda::layout_of(m.channels).units;
}

int packed_words(const Module& m) {
  const int bytes = cuda::operand_bytes(cuda::operand_of(m.precision));
  return static_cast<int>(cuda::block_bytes(cuda::layout_of(m.channels), bytes) / 4);
}

std::size_t workspace_bytes(const Module& m, std::span<const std::int64_t> dims) {
  check_stream(m, dims);
  if (!m.int8_block || m.kind != Kind::lfe) return 0;
  return cuda::int8_image_bytes(static_cast<int>(dims[2]), static_cast<int>(dims[1]),
                                static_cast<int>(dims[0]));
}

void check_stream(const Module& m, std::span<const std::int64_t> dims) {
  std::string found;
  for (const std::int64_t d : dims) found += (found.empty() ? "" : "x") + std::to_string(d);
  const auto multiple = [](std::int64_t side) {
    return side == -1 || (side > 0 && side % 16 == 0);
  };
  if (dims.size() != 4 || !multiple(dims[1]) || !multiple(dims[2]) || dims[3] != places(m)) {
    throw Error(ErrorKind::model, std::string(name_of(m.kind)) + " " + m.stage +
                                      ": input: expected batch x height x width x " +
                                      std::to_string(places(m)) +
                                      " with sides that are multiples of 16, found " +
                                      (found.empty() ? "a scalar" : found));
  }
}

}  // namespace elan::plugins
