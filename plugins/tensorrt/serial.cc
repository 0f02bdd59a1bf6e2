// A module as bytes: how it lies in an engine's plan.
#include <cstring>
#include <optional>

#include "elan/error.h"
#include "model/fingerprint.h"
#include "module.h"

namespace elan::plugins {
namespace {

constexpr char kMagic[8] = {'E', 'L', 'A', 'N', 'P', 'L', 'U', 'G'};
constexpr std::size_t kHeaderBytes =
    sizeof kMagic + 2 * sizeof(std::uint32_t) + sizeof(std::uint64_t);

// The same walk writes, reads and is the only list of what there is. Reading goes through the
// module's fields, so bytes are checked as strictly as an ONNX node is.
class Writer {
 public:
  template <typename T>
  void number(T value) {
    append(&value, sizeof value);
  }
  void field(const char* name, FieldType type, const void* data, std::size_t length,
             std::size_t bytes) {
    number(static_cast<std::uint32_t>(std::strlen(name)));
    append(name, std::strlen(name));
    number(static_cast<std::uint32_t>(type));
    number(static_cast<std::uint64_t>(length));
    append(data, bytes);
  }
  void text(const char* name, const std::string& value) {
    field(name, FieldType::text, value.data(), value.size(), value.size());
  }
  void ints(const char* name, const std::vector<int>& values) {
    field(name, FieldType::i32, values.data(), values.size(), values.size() * sizeof(int));
  }
  void integer(const char* name, int value) {
    field(name, FieldType::i32, &value, 1, sizeof value);
  }
  void floats(const char* name, const std::vector<float>& values) {
    field(name, FieldType::f32, values.data(), values.size(), values.size() * sizeof(float));
  }
  void matrix(const std::string& name, const std::vector<float>& weight,
              const std::optional<QuantizedMatrix>& int8) {
    const std::string key = name + "_weight";
    if (!int8) return floats(key.c_str(), weight);
    field(key.c_str(), FieldType::i8, int8->weight.data(), int8->weight.size(),
          int8->weight.size());
    floats((key + "_scale").c_str(), int8->weight_scale);
    floats((name + "_input_scale").c_str(), {int8->input_scale});
  }
  [[nodiscard]] std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  void append(const void* data, std::size_t size) {
    const auto* from = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), from, from + size);
  }
  std::vector<std::byte> bytes_;
};

std::vector<std::byte> payload_of(const Module& m) {
  Writer w;
  w.text("stage", m.stage);
  w.text("fingerprint", m.fingerprint);
  w.text("precision", std::string(to_string(m.precision)));
  w.integer("half_stream", m.half_stream ? 1 : 0);
  w.integer("int8_block", m.int8_block ? 1 : 0);
  w.integer("channels", m.channels);
  w.ints("stream", m.stream);
  if (m.kind == Kind::lfe) {
    w.integer("hidden", m.lfe.conv0.out);
    w.integer("gives_q", m.gives_q ? 1 : 0);
    w.floats("conv0_mask", m.lfe.conv0.mask);
    w.matrix("conv0", m.lfe.conv0.weight, m.lfe.conv0.int8);
    w.floats("conv0_bias", m.lfe.conv0.bias);
    w.floats("conv1_mask", m.lfe.conv1.mask);
    w.matrix("conv1", m.lfe.conv1.weight, m.lfe.conv1.int8);
    w.floats("conv1_bias", m.lfe.conv1.bias);
    w.matrix("project_inp", m.gmsa.project_inp.weight, m.gmsa.int8_project_inp());
    w.floats("project_inp_bias", m.gmsa.project_inp.bias);
  } else {
    w.ints("windows", {4, 8, 16});
    w.integer("shifted", m.shifted ? 1 : 0);
    w.matrix("project_out", m.gmsa.project_out.weight, m.gmsa.int8_out);
    w.floats("project_out_bias", m.gmsa.project_out.bias);
  }
  if (m.gmsa.int8_attention) {
    const auto& [q, v] = *m.gmsa.int8_attention;
    w.floats("q_scale", {q.begin(), q.end()});
    w.floats("v_scale", {v.begin(), v.end()});
  }
  return w.take();
}

[[noreturn]] void broken(Kind kind, const std::string& what) {
  throw Error(ErrorKind::model, std::string(name_of(kind)) + ": serialised plugin: " + what);
}

class Reader {
 public:
  Reader(Kind kind, std::span<const std::byte> bytes) : kind_(kind), bytes_(bytes) {}

  template <typename T>
  T number() {
    T value{};
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }
  const std::byte* take(std::uint64_t size) {
    if (size > bytes_.size()) broken(kind_, "expected more bytes, found the end");
    const std::byte* at = bytes_.data();
    bytes_ = bytes_.subspan(static_cast<std::size_t>(size));
    return at;
  }
  Field field() {
    Field f;
    const auto name = number<std::uint32_t>();
    f.name = {reinterpret_cast<const char*>(take(name)), name};
    f.type = static_cast<FieldType>(number<std::uint32_t>());
    const auto length = number<std::uint64_t>();
    if (length > bytes_.size()) broken(kind_, "expected more bytes, found the end");
    f.length = static_cast<std::int64_t>(length);
    f.data = take(length * (f.type == FieldType::text || f.type == FieldType::i8 ? 1 : 4));
    return f;
  }
  [[nodiscard]] bool done() const { return bytes_.empty(); }

 private:
  Kind kind_;
  std::span<const std::byte> bytes_;
};

}  // namespace

std::uint64_t hash_of(const Module& m) {
  return xxh64(payload_of(m), static_cast<std::uint64_t>(m.kind));
}

std::vector<std::byte> serialise(const Module& m) {
  const std::vector<std::byte> payload = payload_of(m);
  Writer w;
  for (const char c : kMagic) w.number(c);
  w.number(kSerialVersion);
  w.number(static_cast<std::uint32_t>(m.kind));
  w.number(xxh64(payload, static_cast<std::uint64_t>(m.kind)));
  std::vector<std::byte> bytes = w.take();
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

Module deserialise(Kind kind, std::span<const std::byte> bytes) {
  if (bytes.size() < kHeaderBytes || std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0) {
    broken(kind, "expected one of elan_sr, found something else");
  }
  Reader r(kind, bytes.subspan(sizeof kMagic));
  const auto version = r.number<std::uint32_t>();
  if (version != kSerialVersion) {
    broken(kind, "expected version " + std::to_string(kSerialVersion) + ", found " +
                     std::to_string(version) + "; build the engine again");
  }
  const auto found_kind = r.number<std::uint32_t>();
  if (found_kind != static_cast<std::uint32_t>(kind)) {
    broken(kind, "expected kind " + std::to_string(static_cast<std::uint32_t>(kind)) + ", found " +
                     std::to_string(found_kind));
  }
  const auto hash = r.number<std::uint64_t>();
  if (hash != xxh64(bytes.subspan(kHeaderBytes), static_cast<std::uint64_t>(kind))) {
    broken(kind, "expected the hash of its weights, found another: damaged");
  }
  std::vector<Field> fields;
  while (!r.done()) fields.push_back(r.field());
  return module_from_fields(kind, fields);
}

}  // namespace elan::plugins
