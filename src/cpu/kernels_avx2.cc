// Compiled with the flags of this instruction set (see CMakeLists.txt). Everything is in an
// unnamed namespace, and no inline function of the standard library is used: code with these
// instructions must not be shared with translation units that run on any CPU.
#include <immintrin.h>

#include "cpu/kernels.h"
#include "cpu/kernels_isa.h"

// Keeps a value that is otherwise unused.
#define ELANSR_KEEP(value) asm volatile("" : "+x"(value))

namespace elan::cpu {
namespace {

#include "cpu/vec_avx2.h"
//
#include "cpu/codecs.h"
#include "cpu/product.h"
//
#include "cpu/attention_output.h"
//
#include "cpu/attention_int8.h"
//
#include "cpu/attention.h"
#include "cpu/moves.h"
//
#include "cpu/kernels_impl.h"

}  // namespace

const Kernels& kernels_avx2() {
  return kTable;
}

}  // namespace elan::cpu
