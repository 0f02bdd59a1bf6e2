#include "cpu/isa.h"

#include <algorithm>
#include <cstdlib>

#include "elan/error.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

namespace elan::cpu {
namespace {

struct Name {
  Isa isa;
  std::string_view name;
};

constexpr Name kNames[] = {{Isa::scalar, "scalar"},         {Isa::neon, "neon"},
                           {Isa::neondot, "neondot"},       {Isa::avx2, "avx2"},
                           {Isa::avxvnni, "avxvnni"},       {Isa::avx512, "avx512"},
                           {Isa::avx512vnni, "avx512vnni"}, {Isa::avx512bf16, "avx512bf16"}};

#if defined(__x86_64__)
// AVX-VNNI: not among the names that every compiler knows.
bool has_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & (1u << 4)) != 0;
}
#endif

std::vector<Isa> detect() {
  std::vector<Isa> isas{Isa::scalar};
#if defined(__aarch64__)
  isas.push_back(Isa::neon);
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0) isas.push_back(Isa::neondot);
#elif defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    isas.push_back(Isa::avx2);
    if (has_avx_vnni()) isas.push_back(Isa::avxvnni);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      isas.push_back(Isa::avx512);
      if (__builtin_cpu_supports("avx512vnni")) {
        isas.push_back(Isa::avx512vnni);
        if (__builtin_cpu_supports("avx512bf16")) isas.push_back(Isa::avx512bf16);
      }
    }
  }
#endif
  return isas;
}

}  // namespace

std::string_view to_string(Isa isa) {
  for (const Name& n : kNames) {
    if (n.isa == isa) return n.name;
  }
  return "?";
}

const std::vector<Isa>& usable_isas() {
  static const std::vector<Isa> isas = detect();
  return isas;
}

std::string usable_isa_names() {
  std::string names;
  for (const Isa isa : usable_isas()) {
    if (!names.empty()) names += ", ";
    names += to_string(isa);
  }
  return names;
}

Isa choose_isa() {
  const char* wanted = std::getenv("ELANSR_CPU");
  if (wanted == nullptr || *wanted == '\0') return usable_isas().back();
  const std::string_view name = wanted;
  const auto* known = std::find_if(std::begin(kNames), std::end(kNames),
                                   [&](const Name& n) { return n.name == name; });
  if (known == std::end(kNames)) {
    throw Error(ErrorKind::usage, "ELANSR_CPU=" + std::string(name) +
                                      " names no instruction set: this CPU has " +
                                      usable_isa_names());
  }
  const std::vector<Isa>& isas = usable_isas();
  if (std::find(isas.begin(), isas.end(), known->isa) == isas.end()) {
    throw Error(ErrorKind::usage,
                "ELANSR_CPU=" + std::string(name) + ": this CPU has " + usable_isa_names());
  }
  return known->isa;
}

}  // namespace elan::cpu
