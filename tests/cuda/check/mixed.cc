#include <cmath>
#include <string>

#include "cuda/check/check.h"
#include "model/plan.h"

namespace elan::check {
namespace {

std::vector<float> enlarge(const Model& model, const std::string& json, const Picture& picture) {
  const PrecisionPlan plan = PrecisionPlan::parse(json, "plan", Precision::fp16);
  plan.check(model.architecture());
  const auto gpu = make_cuda_backend(model.shared_network(), plan, 0);
  const auto first = run(*gpu, picture.view(), model.scale());
  run(*gpu, picture.view(), model.scale());  // from here on a graph
  const auto again = run(*gpu, picture.view(), model.scale());
  return compare(first, again).largest == 0 ? first : std::vector<float>(first.size(), NAN);
}

// All operands in one pass, against the reference under the same plan; and how plans that are next
// to uniform compare with what they are next to.
void check_model(const std::string& name, const Options& options, Results& results) {
  const Model model = Model::load(options.models + "/" + name + ".safetensors");
  const Picture p = drawn(45, 30, 5);
  const std::string all = R"({"default": "fp16", "residual": "fp16", "body.0.*": "tf32",
      "body.2.*": "bf16", "body.3.*": "fp32", "body.5.gmsa.0.qk": "tf32"})";
  const auto reference = make_reference_backend(model.shared_network(),
                                                PrecisionPlan::parse(all, "plan", Precision::fp16));
  const auto wanted = run(*reference, p.view(), model.scale());
  const auto exact = enlarge(model, R"({"default": "fp32"})", p);
  const auto off = [&](const std::vector<float>& found) { return compare(found, exact).mean; };
  const double own = off(wanted), found = compare(enlarge(model, all, p), wanted).mean;
  const auto text = [](double value) { return std::to_string(value); };
  results.note(name + " mixed: all operands", found <= 2 * own,
               text(found) + " from the reference, which is " + text(own) + " from fp32");

  const auto half = enlarge(model, R"({"default": "fp16"})", p);
  const auto named =
      enlarge(model, R"({"default": "fp32", "residual": "fp16", "body.*": "fp16"})", p);
  results.note(name + " mixed: all of one operand is that operand",
               compare(half, named).largest == 0, {});
  const auto on_fp32 = enlarge(model, R"({"default": "fp16", "residual": "fp32"})", p);
  const auto one =
      enlarge(model, R"({"default": "fp32", "residual": "fp16", "body.4.*": "fp16"})", p);
  results.note(name + " mixed: errors in order",
               0 < off(one) && off(one) < off(on_fp32) && off(on_fp32) < off(half),
               text(off(one)) + ", " + text(off(on_fp32)) + ", " + text(off(half)));
}

}  // namespace

void check_mixed(const Options& options, Results& results) {
  for (const char* name : {"elan_light_x4", "elan_x4"}) check_model(name, options, results);
}

}  // namespace elan::check
