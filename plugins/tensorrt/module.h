// What an ElanLFE or ElanGMSA node is, whatever runtime created it: read from the fields of its
// ONNX node, checked, written to bytes and read again. Plain C++, no TensorRT and no CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "elan/precision.h"
#include "model/network.h"

namespace elan::plugins {

constexpr const char* kNamespace = "elan_sr";
constexpr const char* kVersion = "4";  // of the fields and tensors; what an ONNX node asks for
constexpr std::uint32_t kSerialVersion = 4;  // of the bytes

enum class Kind : std::uint32_t { lfe, gmsa };
const char* name_of(Kind kind);  // "ElanLFE"

// One field as a plugin creator gets it. `length` counts elements; text may end with a zero.
enum class FieldType : std::uint8_t { f32, i32, i64, text, i8, other };
struct Field {
  std::string_view name;
  FieldType type = FieldType::other;
  const void* data = nullptr;
  std::int64_t length = 0;
};

// Every field there is, in order; `type` is what an ONNX parser makes of the exporter's attributes:
// f32 for a matrix, which is i8 if it is in 8 bits, and then has the two scales. An attention in 8
// bits has q_scale and v_scale.
struct FieldName {
  const char* name;
  FieldType type;
  bool of_int8 = false;  // a scale
};
std::span<const FieldName> field_names(Kind kind);

struct Module {
  Kind kind = Kind::lfe;
  std::string stage, fingerprint;
  Precision precision = Precision::fp32;
  bool half_stream = false;  // the stream is FP16
  bool int8_block = false;   // all matrices of the ELAB are in 8 bits
  int channels = 0;
  std::vector<int> stream;  // the channel at each place of a stream's pixel; -1: none

  bool gives_q = false;  // ElanLFE
  Lfe lfe;
  bool shifted = false;  // ElanGMSA
  // project_inp (ElanLFE, batch norm folded in) or project_out (ElanGMSA); the scales of an
  // attention in 8 bits, those of q too.
  Gmsa gmsa;
};

// Throws Error (model): "ElanLFE body.0.lfe.0: field conv0_weight: expected ..., found ...".
Module module_from_fields(Kind kind, std::span<const Field> given);

// Magic, version, kind, hash of the rest, the rest. deserialise() throws Error (model) for anything
// that serialise() of this version did not write.
std::vector<std::byte> serialise(const Module& module);
Module deserialise(Kind kind, std::span<const std::byte> bytes);

// XXH64 of everything that decides what the module computes.
std::uint64_t hash_of(const Module& module);

// Tensors. A stream is float32 or, if the module says so, float16 [batch, height, width, places], a
// packed tensor int32 words [batch, height / 4, width / 4, words]: q or v of 4 x 4 pixels as the
// kernels keep them.
enum class TensorKind : std::uint8_t { stream, packed };
std::span<const TensorKind> inputs_of(const Module& module);   // lfe: x; gmsa: y, v, q
std::span<const TensorKind> outputs_of(const Module& module);  // lfe: y, v, [q]; gmsa: x
int places(const Module& module);
int packed_words(const Module& module);
// Bytes to work in for a stream of these dimensions, whatever the device.
std::size_t workspace_bytes(const Module& module, std::span<const std::int64_t> dims);

// Throws Error (model) unless the dimensions (-1: not known yet) are those of a stream.
void check_stream(const Module& module, std::span<const std::int64_t> dims);

}  // namespace elan::plugins
