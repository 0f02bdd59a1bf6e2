// Which precision each operation runs in. A plan is a small JSON object over the operations of
// stages.h:
//
//   {"default": "fp16", "residual": "fp32", "body.*.gmsa.*.qk": "fp32", "body.3.lfe.0.conv1":
//   "int8"}
//
// A name may be a pattern: * stands for any characters, ? for one. Where several match, the one
// with the most other characters wins. "default" is what no pattern matches. "residual" is the
// stored residual stream; it is fp32 (fp64 where the default is) unless it is named, for neither
// patterns nor the default reach it. "body.3.residual" is that of one ELAB, with patterns of their
// own, which end in .residual; it is as "residual" unless one matches.
// "__metadata__" may hold texts about the plan, such as the errors measured when it was made.
//
// The precision of an operation is that of its operands; sums are kept in fp32 or better. A backend
// may compute an operation more exactly than asked (there is no 8-bit softmax), never less so.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "elan/model.h"
#include "elan/precision.h"

namespace elan {

class PrecisionPlan {
 public:
  // The same for all operations. Implicit: a precision is the simplest plan.
  PrecisionPlan(Precision uniform) : default_(uniform) {}  // NOLINT(google-explicit-constructor)

  // `fallback` is the default where the text names none; `name` stands for the text in messages.
  // Throws Error (model): not JSON, not an object, a key twice, an unknown precision.
  static PrecisionPlan parse(std::string_view json, std::string_view name, Precision fallback);

  // The same from a file's path; text that begins with { is taken for the plan itself.
  static PrecisionPlan read(const std::string& path_or_json, Precision fallback);

  // Throws Error (model): a name that is no operation of this network, a pattern that matches none,
  // two patterns that match an operation equally well and differ.
  void check(const Architecture& arch) const;

  // Of an operation by its canonical name, of "residual", or of a stream (stages.h).
  [[nodiscard]] Precision at(std::string_view operation) const;

  [[nodiscard]] Precision default_precision() const { return default_; }
  // Whether it was made from one precision, or says no more than one.
  [[nodiscard]] bool uniform() const { return rules_.empty(); }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }

  void set(const std::string& pattern, Precision precision) { rules_[pattern] = precision; }
  void set_metadata(const std::string& key, const std::string& text) { metadata_[key] = text; }

  // One line: the default, then the rest in alphabetical order; without the metadata. Equal for
  // plans of the same rules however they were written.
  [[nodiscard]] std::string to_json() const;
  // For files: a line per rule, and the metadata.
  [[nodiscard]] std::string to_file() const;

 private:
  std::string name_ = "plan";
  Precision default_;
  std::map<std::string, Precision> rules_;
  std::map<std::string, std::string> metadata_;
};

// Whether the pattern of a plan matches the whole name.
bool matches(std::string_view pattern, std::string_view name);

// For backends that run all operations in one precision: that one. Throws Error (usage) that names
// the operation that asks for another, or a residual stream that is not what `at` says by itself.
Precision single_precision(const PrecisionPlan& plan, const Architecture& arch,
                           std::string_view device);

// For backends that mix. `able` lists what an operation (or "residual") can run in. Throws Error
// (usage) that names the first operation that asks for something else, and its list.
void check_able(const PrecisionPlan& plan, const Architecture& arch, std::string_view device,
                const std::function<std::vector<Precision>(std::string_view operation)>& able);

}  // namespace elan
